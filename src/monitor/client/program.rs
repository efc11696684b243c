//! The program of the monitor, and its start.
//!
//! A process that is started gets a copy of its parent's table of descriptors, and its program
//! begins with closing the copy; a daemon with many pods has thousands, which takes longer than
//! all else that a start needs. So monitors are started by a thread whose table is its own
//! (`CLONE_FILES` of unshare(2)), and short.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{net::UnixDatagram, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use tokio::{net::UnixStream, sync::mpsc::UnboundedSender};

use super::{Error, Event, Monitor};
use crate::{
    monitor::envelope::sealed,
    sys::{descriptors, exec::close_all_but_streams_and, socket},
};

/// How long a start may take: a few milliseconds, on a machine that is starved much more.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the thread says what became of a start: the process id.
type Answer = Sender<io::Result<u32>>;

/// The program of the monitor, in memory that nobody can change: not through `/proc/PID/exe`
/// of a process in a pod, and not by an upgrade of the file. All its processes share it.
#[derive(Debug)]
pub struct Program {
    // Held while one is asked for: answers and descriptors come to the thread in one order.
    starter: Mutex<Starter>,
}

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
struct Starter {
    answers: Sender<Answer>,
    /// What brings descriptors into the thread's table.
    socket: UnixDatagram,
}

impl Program {
    /// Reads the program from a file.
    ///
    /// # Errors
    /// When the file cannot be read, or the thread that starts monitors cannot be.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let starter = Starter::start(path.to_owned());
        let failed = |source| Error::Program { path: path.to_owned(), source };
        Ok(Self { starter: Mutex::new(starter.map_err(failed)?) })
    }

    /// Starts a monitor that listens at `socket`, and connects to it. For threads that serve
    /// nobody.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, socket: &Path, events: UnboundedSender<Event>) -> Result<Monitor, Error> {
        let failed = |operation| move |source| Error::Connection { operation, source };
        let listener = socket::listen_at(socket).map_err(failed("open a socket for"))?;
        let (ours, theirs) = socket::pair().map_err(failed("open a socket for"))?;
        let pid = self.start([listener.as_fd(), theirs.as_fd()]).map_err(failed("start"))?;
        // What it starts are the containers.
        descriptors::give_inherited(Some(pid));
        tokio::spawn(async move {
            // Nothing to tell: the closed connection says that it is gone.
            let _ = reap(pid).await;
        });
        Monitor::over(ours, Some(pid), events)
    }

    fn start(&self, streams: [BorrowedFd<'_>; 2]) -> io::Result<u32> {
        let (answer, started) = channel();
        {
            let starter = self.starter.lock().unwrap_or_else(PoisonError::into_inner);
            socket::send(starter.socket.as_fd(), &[0], &streams)?;
            // A thread that has ended gives no answer.
            let _ = starter.answers.send(answer);
        }
        // One that is started later finds its connection closed, and ends.
        started.recv_timeout(LIMIT).unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl Starter {
    fn start(path: PathBuf) -> io::Result<Self> {
        let (socket, theirs) = UnixDatagram::pair()?;
        let (answers, queue) = channel();
        let (tell, told) = channel();
        let run = move || match own_table(theirs.as_fd(), &path) {
            Ok(program) => {
                let _ = tell.send(Ok(()));
                serve(&program, theirs.as_fd(), &queue);
            }
            Err(error) => drop(tell.send(Err(error))),
        };
        thread::Builder::new().name("monitors".to_owned()).spawn(run)?;
        told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { answers, socket })
    }
}

/// Gives the calling thread a table with the standard streams, the socket, and the program.
fn own_table(socket: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_FILES)?;
    // Copies: whoever owns the originals has them still.
    close_all_but_streams_and(socket);
    sealed("criquet-monitor", &fs::read(path)?)
}

fn serve(program: &OwnedFd, socket: BorrowedFd<'_>, queue: &Receiver<Answer>) {
    // Descriptors are there before the answer is asked for.
    for answer in queue {
        let streams = socket::receive(socket, &mut [0; 1]).map(|(_, streams)| streams);
        // Whoever has asked waits.
        let _ = answer.send(streams.and_then(|streams| run(program, streams)));
    }
}

fn run(program: &OwnedFd, streams: Vec<OwnedFd>) -> io::Result<u32> {
    let Ok([listener, connection]) = <[OwnedFd; 2]>::try_from(streams) else {
        return Err(io::Error::other("descriptors were lost on the way"));
    };
    let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0("criquet-monitor")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(listener))
        .stdout(Stdio::from(connection))
        .stderr(Stdio::inherit())
        .spawn()?;
    Ok(child.id())
}

/// Waits for the end of a process that this one has started, so that nothing of it stays.
async fn reap(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    // Until it is waited for nobody else has its number. Only readiness is asked of the stream.
    let process = UnixStream::from_std(pidfd_open(pid, PidfdFlags::NONBLOCK)?.into())?;
    process.readable().await?;
    waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED)?;
    Ok(())
}
