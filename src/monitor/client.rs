//! The daemon's side of a monitor: starts one, connects to it, and calls it.
//!
//! Every call has a limit. One that is not answered in time fails, and the connection is as
//! good as before: an answer that comes later is dropped.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot},
    time::timeout,
};

mod attach;
mod connection;
mod error;
mod exec;
mod limits;
mod program;

pub use super::pod::Traces;
use super::{
    PROTOCOL,
    envelope::{Packet, sealed},
    v1::{self, reply::Result as Answer, request::Call},
};
use crate::{
    kind::Kind,
    sys::{socket, sysctl},
};
pub use attach::Attached;
use connection::{Connection, Waiting};
pub use error::Error;
use error::refused;
pub use exec::{ExecStdio, Exit, Started};
pub use program::Program;

/// What a monitor tells without being asked.
#[derive(Debug)]
pub enum Event {
    /// A container ended.
    ContainerExited(v1::ContainerExited),
    /// The init of the PID namespace that the containers share has ended, and all in it. No
    /// container can be started in this pod any more.
    PodInitExited,
    /// What the filter of a container has refused since its start.
    CallsRefused(v1::CallsRefused),
    /// The connection is closed.
    Gone,
}

/// A connection to a monitor. Cheap to clone; calls may overlap.
#[derive(Debug, Clone)]
pub struct Monitor {
    connection: Arc<Connection>,
    /// Instead of the limit of each call.
    limit: Option<Duration>,
}

impl Monitor {
    /// Connects to the monitor that listens at `socket`. Does not wait.
    ///
    /// # Errors
    /// [`Error::Gone`] where nobody listens; [`Error::Unreachable`] for any other reason, which
    /// says nothing about the life of the monitor.
    pub fn connect(socket: &Path, events: mpsc::UnboundedSender<Event>) -> Result<Self, Error> {
        let fd = socket::connect_to(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::Gone,
            _ => Error::Unreachable(error),
        })?;
        Self::over(fd, None, events)
    }

    /// The same connection; each of its calls may take so long, whatever it is.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { connection: Arc::clone(&self.connection), limit: Some(limit) }
    }

    fn over(
        fd: OwnedFd,
        pid: Option<u32>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, Error> {
        // Only readiness is asked of the stream; messages keep their borders.
        let socket = UnixStream::from_std(fd.into())
            .map_err(|source| Error::Connection { operation: "watch", source })?;
        let connection = Arc::new(Connection {
            socket,
            pid,
            // Exec ids share this counter, and must not meet those of an earlier daemon.
            next: AtomicU64::new(first_id()),
            waiting: Mutex::default(),
        });
        tokio::spawn(connection::receive(Arc::clone(&connection), events));
        Ok(Self { connection, limit: None })
    }

    /// The process id, where this daemon started it.
    pub fn pid(&self) -> Option<u32> {
        self.connection.pid
    }

    /// Who the monitor says that it is, once it has answered anything; nothing from one that is
    /// older than its saying so.
    pub fn welcome(&self) -> Option<v1::Welcome> {
        self.lock().welcome.clone()
    }

    /// Whether the connection is closed.
    pub fn is_gone(&self) -> bool {
        self.lock().closed
    }

    /// Makes the network, IPC and UTS namespaces of a pod that is not known yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn prepare(&self) -> Result<(), Error> {
        let prepare = v1::Prepare { network: true, ipc: true, uts: true };
        self.call(Call::Prepare(prepare), &[]).await.map(drop)
    }

    /// Makes the namespaces of the pod. The mount namespaces of its containers begin with the
    /// template; without one with the host's. Its settings are set through the directory that
    /// [`crate::sys::sysctl::own`] gives.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_up(
        &self,
        setup: v1::Setup,
        template: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        // The template is the first, where there is one.
        let settings = template.and_then(|_| sysctl::own());
        let given: Vec<_> = template.into_iter().chain(settings).collect();
        self.call(Call::Setup(setup), &given).await.map(drop)
    }

    /// What runs and what has ended.
    pub async fn state(&self) -> Result<v1::States, Error> {
        match self.call(Call::State(v1::State {}), &[]).await? {
            (Answer::States(states), _) => Ok(states),
            _ => Err(Error::Gone),
        }
    }

    /// Starts a container from a file with its bundle; returns when its program runs.
    pub async fn start(
        &self,
        request: v1::Start,
        bundle: BorrowedFd<'_>,
        filter: Option<&[u8]>,
    ) -> Result<v1::Started, Error> {
        let filter = filter.map(file_of).transpose()?;
        let fds: Vec<_> =
            [Some(bundle), filter.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
        let container = request.container.clone();
        let request = v1::Start { has_filter: filter.is_some(), ..request };
        let stop = v1::Stop { container, signal: libc::SIGKILL, timeout: 0 };
        let call = if request.is_extended { Call::StartExtended } else { Call::Start };
        let answered = self.call_or_take_back(call(request), &fds, Call::Stop(stop)).await;
        started(answered?).map(|(started, _)| started)
    }

    /// Sends a signal, and SIGKILL to everything after `timeout` milliseconds.
    pub async fn stop(&self, container: &str, signal: i32, timeout: u64) -> Result<(), Error> {
        let container = container.to_owned();
        self.call(Call::Stop(v1::Stop { container, signal, timeout }), &[]).await.map(drop)
    }

    /// Opens the log of a container anew.
    pub async fn reopen_log(&self, container: &str) -> Result<(), Error> {
        let container = container.to_owned();
        self.call(Call::ReopenLog(v1::ReopenLog { container }), &[]).await.map(drop)
    }

    /// Changes the limits of a container.
    pub async fn update(&self, container: &str, resources: &impl Serialize) -> Result<(), Error> {
        let resources = serde_json::to_vec(resources)?;
        let container = container.to_owned();
        self.call(Call::Update(v1::Update { container, resources }), &[]).await.map(drop)
    }

    /// Forgets a container that has ended, and removes its cgroup.
    pub async fn delete(&self, container: &str) -> Result<(), Error> {
        let container = container.to_owned();
        self.call(Call::Delete(v1::Delete { container }), &[]).await.map(drop)
    }

    /// Ends the pod and the monitor.
    pub async fn shut_down(&self) -> Result<(), Error> {
        self.call(Call::Shutdown(v1::Shutdown {}), &[]).await.map(drop)
    }

    async fn call(
        &self,
        call: Call,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let (name, limit) = limits::of(&call);
        let after = self.limit.unwrap_or(limit);
        let late = |_| Error::Timeout { call: name, after };
        let (answer, fds) = timeout(after, self.exchange(call, fds)).await.map_err(late)??;
        self.check_protocol()?;
        match answer {
            Answer::Failure(failure) => Err(refused(failure)),
            answer => Ok((answer, fds)),
        }
    }

    async fn exchange(
        &self,
        call: Call,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let id = self.connection.next.fetch_add(1, Ordering::Relaxed);
        let packet = Packet::of(&v1::Request { id, call: Some(call), enclosed: 0 });
        let packet = packet.map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => Error::Refused {
                kind: Kind::InvalidArgument,
                message: "the request is too long; make its lists shorter".to_owned(),
            },
            _ => Error::Connection { operation: "prepare a request to", source },
        })?;
        let (sender, reply) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(Error::Gone);
            }
            waiting.replies.insert(id, sender);
        }
        let _forget = Forget { connection: &self.connection, id };
        self.send(&packet, fds).await?;
        reply.await.map_err(|_| Error::Gone)
    }

    async fn send(&self, packet: &Packet, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        loop {
            match packet.send(self.connection.socket.as_fd(), fds) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The monitor is busy with hundreds of requests of ours.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => return Err(Error::Gone),
                Err(source) => return Err(Error::Connection { operation: "call", source }),
            }
        }
    }

    /// A call that makes something, and another that takes it back once the monitor gets to
    /// it, where the first is not answered in time or its caller gives up.
    async fn call_or_take_back(
        &self,
        call: Call,
        fds: &[BorrowedFd<'_>],
        back: Call,
    ) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let connection = Arc::clone(&self.connection);
        let mut take_back =
            TakeBack { monitor: Self { connection, limit: None }, back: Some(back) };
        let answered = self.call(call, fds).await;
        if !matches!(answered, Err(Error::Timeout { .. })) {
            take_back.back = None;
        }
        answered
    }

    fn check_protocol(&self) -> Result<(), Error> {
        match &self.lock().welcome {
            Some(welcome) if welcome.protocol.abs_diff(PROTOCOL) > 1 => {
                let (protocol, build) = (welcome.protocol, welcome.build.clone());
                Err(Error::Incompatible { protocol, build })
            }
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.connection.lock()
    }
}

/// Nobody waits for an answer any more, also when the caller gave up.
struct Forget<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.connection.lock().replies.remove(&self.id);
    }
}

/// When the monitor cannot be told, its own limits end what was made.
struct TakeBack {
    monitor: Monitor,
    back: Option<Call>,
}

impl Drop for TakeBack {
    fn drop(&mut self) {
        let Some(back) = self.back.take() else { return };
        let monitor = self.monitor.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { monitor.call(back, &[]).await.map(drop) });
        }
    }
}

fn started((answer, fds): (Answer, Vec<OwnedFd>)) -> Result<(v1::Started, Vec<OwnedFd>), Error> {
    match answer {
        Answer::Started(started) => Ok((started, fds)),
        _ => Err(Error::Gone),
    }
}

/// A file in memory, for what is too long for a message.
fn file_of(content: &[u8]) -> Result<OwnedFd, Error> {
    sealed("criquet-bundle", content)
        .map_err(|source| Error::Connection { operation: "prepare a request to", source })
}

fn first_id() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(1, |elapsed| elapsed.as_micros() as u64)
}
