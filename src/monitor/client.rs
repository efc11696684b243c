//! The daemon's side of a monitor: starts one, connects to it, and calls it.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prost::Message as _;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::Serialize;
use thiserror::Error;
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{mpsc, oneshot},
};

mod attach;
mod exec;

pub use super::pod::Traces;
use super::{
    MAX_MESSAGE,
    v1::{self, message::Content, reply::Result as Answer, request::Call},
};
use crate::{kind::Kind, sys::socket};
pub use attach::Attached;
pub use exec::{ExecStdio, Started};

/// A failure to reach a monitor, or what it answered.
#[derive(Debug, Error)]
pub enum Error {
    /// The program cannot be made ready.
    #[error("cannot read the monitor's program {}; install criquet-monitor beside criquet or set monitor_path", path.display())]
    Program {
        /// Where it was looked for.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A monitor cannot be started or reached.
    #[error("cannot {operation} the monitor of the pod")]
    Connection {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The monitor ended, or closed the connection, before it answered.
    #[error("the monitor of the pod is gone")]
    Gone,
    /// The monitor refused.
    #[error("{message}")]
    Refused {
        /// The kind of its error.
        kind: Kind,
        /// Its words.
        message: String,
    },
    /// What is sent cannot be encoded.
    #[error("cannot encode a request to the monitor")]
    Encode(#[from] serde_json::Error),
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Refused { kind, .. } => *kind,
            Error::Program { .. } => Kind::FailedPrecondition,
            Error::Connection { source, .. } => Kind::of_io(source),
            Error::Gone => Kind::Unavailable,
            Error::Encode(_) => Kind::Internal,
        }
    }
}

/// The program of the monitor, in memory that nobody can change: not through `/proc/PID/exe`
/// of a process in a pod, and not by an upgrade of the file. All its processes share it.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Reads the program from a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let load = || {
            let program = fs::read(path)?;
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = fs::File::from(memfd_create("criquet-monitor", flags)?);
            (&file).write_all(&program)?;
            let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
            fcntl_add_seals(&file, seals)?;
            Ok(OwnedFd::from(file))
        };
        load().map(Self).map_err(|source| Error::Program { path: path.to_owned(), source })
    }

    /// Starts a monitor that listens at `socket`, and connects to it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        &self,
        socket: &Path,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Monitor, Error> {
        let failed = |operation| move |source| Error::Connection { operation, source };
        let listener = socket::listen_at(socket).map_err(failed("open a socket for"))?;
        let (ours, theirs) = socket::pair().map_err(failed("open a socket for"))?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.0));
        let mut command = Command::new(path);
        command
            .arg0("criquet-monitor")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::inherit());
        let mut child = tokio::process::Command::from(command).spawn().map_err(failed("start"))?;
        let pid = child.id();
        tokio::spawn(async move {
            // Nothing to tell: the closed connection says that it is gone.
            let _ = child.wait().await;
        });
        Monitor::over(ours, pid, events)
    }
}

/// What a monitor tells without being asked.
#[derive(Debug)]
pub enum Event {
    /// A container ended.
    ContainerExited(v1::ContainerExited),
    /// The connection is closed.
    Gone,
}

/// A connection to a monitor. Cheap to clone; calls may overlap.
#[derive(Debug, Clone)]
pub struct Monitor(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    socket: UnixStream,
    pid: Option<u32>,
    next: AtomicU64,
    // Short critical sections: one map operation.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    replies: HashMap<u64, oneshot::Sender<(Answer, Vec<OwnedFd>)>>,
    execs: HashMap<u64, oneshot::Sender<i32>>,
    /// Those who are told when they are cut off.
    attached: HashMap<u64, oneshot::Sender<()>>,
}

impl Monitor {
    /// Connects to the monitor that listens at `socket`.
    ///
    /// # Errors
    /// [`Error::Connection`] where nobody listens.
    pub fn connect(socket: &Path, events: mpsc::UnboundedSender<Event>) -> Result<Self, Error> {
        let fd = socket::connect_to(socket)
            .map_err(|source| Error::Connection { operation: "connect to", source })?;
        Self::over(fd, None, events)
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
        tokio::spawn(receive(Arc::clone(&connection), events));
        Ok(Self(connection))
    }

    /// The process id, where this daemon started it.
    pub fn pid(&self) -> Option<u32> {
        self.0.pid
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

    /// Makes the namespaces of the pod.
    pub async fn set_up(&self, setup: v1::Setup) -> Result<(), Error> {
        self.call(Call::Setup(setup), &[]).await.map(drop)
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
        let request = v1::Start { has_filter: filter.is_some(), ..request };
        started(self.call(Call::Start(request), &fds).await?).map(|(started, _)| started)
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
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let request = v1::Request { id, call: Some(call) }.encode_to_vec();
        if request.len() > MAX_MESSAGE {
            return Err(Error::Refused {
                kind: Kind::InvalidArgument,
                message: format!(
                    "the request is {} bytes long; make its lists shorter",
                    request.len()
                ),
            });
        }
        let (sender, reply) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(Error::Gone);
            }
            waiting.replies.insert(id, sender);
        }
        if let Err(error) = self.send(&request, fds).await {
            self.lock().replies.remove(&id);
            return Err(error);
        }
        match reply.await.map_err(|_| Error::Gone)? {
            (Answer::Failure(failure), _) => Err(refused(failure)),
            answer => Ok(answer),
        }
    }

    async fn send(&self, request: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        loop {
            match socket::send(self.0.socket.as_fd(), request, fds) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The monitor is busy with hundreds of requests of ours.
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => return Err(Error::Gone),
                Err(source) => return Err(Error::Connection { operation: "call", source }),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock()
    }
}

impl Connection {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dispatch(&self, content: Content, fds: Vec<OwnedFd>, events: &mpsc::UnboundedSender<Event>) {
        match content {
            Content::Reply(reply) => {
                let sender = self.lock().replies.remove(&reply.id);
                if let (Some(sender), Some(answer)) = (sender, reply.result) {
                    // The caller may have given up.
                    let _ = sender.send((answer, fds));
                }
            }
            Content::ContainerExited(exit) => {
                let _ = events.send(Event::ContainerExited(exit));
            }
            Content::ExecExited(exit) => {
                if let Some(sender) = self.lock().execs.remove(&exit.exec) {
                    let _ = sender.send(exit.exit_code);
                }
            }
            Content::AttachLost(lost) => {
                if let Some(sender) = self.lock().attached.remove(&lost.attach) {
                    let _ = sender.send(());
                }
            }
        }
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        // Dropping the senders wakes those who wait.
        waiting.replies.clear();
        waiting.execs.clear();
        waiting.attached.clear();
    }
}

async fn receive(connection: Arc<Connection>, events: mpsc::UnboundedSender<Event>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        if connection.socket.readable().await.is_err() {
            break;
        }
        let received = connection
            .socket
            .try_io(Interest::READABLE, || socket::receive(connection.socket.as_fd(), &mut buffer));
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) | Ok((0, _)) => break,
            Ok((length, fds)) => {
                if let Ok(v1::Message { content: Some(content) }) =
                    v1::Message::decode(&buffer[..length])
                {
                    connection.dispatch(content, fds, &events);
                }
            }
        }
    }
    connection.close();
    let _ = events.send(Event::Gone);
}

fn started((answer, fds): (Answer, Vec<OwnedFd>)) -> Result<(v1::Started, Vec<OwnedFd>), Error> {
    match answer {
        Answer::Started(started) => Ok((started, fds)),
        _ => Err(Error::Gone),
    }
}

fn refused(failure: v1::Failure) -> Error {
    let kind = match failure.code() {
        v1::Code::Internal => Kind::Internal,
        v1::Code::InvalidArgument => Kind::InvalidArgument,
        v1::Code::FailedPrecondition => Kind::FailedPrecondition,
        v1::Code::ResourceExhausted => Kind::ResourceExhausted,
        v1::Code::NotFound => Kind::NotFound,
        v1::Code::Unimplemented => Kind::Unimplemented,
    };
    Error::Refused { kind, message: failure.message }
}

/// A file in memory, for what is too long for a message.
fn file_of(content: &[u8]) -> Result<OwnedFd, Error> {
    let create = || {
        let file = fs::File::from(memfd_create("criquet-bundle", MemfdFlags::CLOEXEC)?);
        (&file).write_all(content)?;
        Ok(OwnedFd::from(file))
    };
    create().map_err(|source| Error::Connection { operation: "prepare a request to", source })
}

fn first_id() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(1, |elapsed| elapsed.as_micros() as u64)
}
