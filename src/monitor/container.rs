//! One container as the monitor sees it.
//!
//! ```text
//! Starting ──ready, end of report──► Running ──exit──► Exited ──delete──► (gone)
//!     └──failed, or killed on its way──► (gone; the start is answered with the failure)
//! ```
//!
//! One that was killed on its way and does not end is where it was; its start is answered all
//! the same.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::process::Pid;

pub(super) use super::way::Caller;
use super::{
    log::Log,
    refusals::Refusals,
    sources::Token,
    v1,
    way::{Maker, Way},
};
use crate::{
    kind::Kind,
    runtime::{cgroup::Cgroup, error::Error},
    sys::{keyring::Keyring, signal},
};

/// A container's process, log and cgroup.
#[derive(Debug)]
pub(super) struct Container {
    pub cgroup: Cgroup,
    pub pid: Pid,
    /// Until it has ended: a pod can have hundreds of those that have.
    pub pidfd: Option<OwnedFd>,
    pub phase: Phase,
    /// The session keyring of its processes.
    pub keyring: Keyring,
    pub log: Option<Log>,
    /// Sources of its output that have not ended.
    pub outputs: Vec<Token>,
    /// The write end of its standard input, where it is kept open.
    pub stdin: Option<OwnedFd>,
    /// Whether it has a terminal, which is its first output.
    pub terminal: bool,
    /// Whether its standard input ends with the first client that has it.
    pub stdin_once: bool,
    /// The daemon whose client has such an input.
    pub stdin_holder: Option<Token>,
    /// Who is shown what it writes.
    pub readers: Vec<Reader>,
    /// Whether processes can be left when the first one has ended.
    pub shares_pid_namespace: bool,
    /// When everything in it is killed.
    pub deadline: Option<Instant>,
    /// When it was, first.
    pub killed_at: Option<Instant>,
    /// Its terminal, while no program has it open.
    pub closed_terminal: Option<ClosedTerminal>,
    /// Whether the kernel's OOM kills count before this start, for a cgroup that was there.
    pub oom_kills_before: u64,
    /// What its filter refuses; none where nobody wants to know.
    pub refusals: Option<Refusals>,
    /// Whether it is ended for that.
    pub stopped_for_refusal: bool,
}

/// A terminal that nobody has open. The kernel does not tell when somebody opens it again, so
/// it is looked at now and then.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClosedTerminal {
    pub output: Token,
    pub look_at: Instant,
    pub pause: Duration,
}

/// A pipe to somebody who is attached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    pub attach: u64,
    /// 0 for stdout or the terminal, 1 for stderr.
    pub stream: usize,
    pub pipe: Token,
}

/// Where a container is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its first process has not executed the program yet. Whoever waits for that is none
    /// once it was told that the process does not end either.
    Starting(Way),
    /// The program runs.
    Running { started_at: i64 },
    /// It has ended.
    Exited { started_at: i64, exit: v1::ContainerExited },
}

impl Container {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// Its first process, while the program runs.
    pub(super) fn running(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().filter(|_| self.is_running()).map(AsFd::as_fd)
    }

    /// Lets go of what one that has ended needs no more.
    pub(super) fn let_go(&mut self) {
        self.pidfd = None;
        self.stdin = None;
        if self.outputs.is_empty() {
            self.log = None;
        }
    }

    /// The child that is its process, or is about to be.
    pub(super) fn is_child(&self, pid: Pid) -> bool {
        let is_gone = matches!(&self.phase, Phase::Starting(way) if way.maker == Maker::Gone);
        self.pid == pid && !is_gone
    }

    /// Sends a signal to the first process. One that has ended needs none.
    pub(super) fn signal(&self, number: i32) -> Result<(), Error> {
        let Some(pidfd) = &self.pidfd else { return Ok(()) };
        match signal::send(pidfd.as_fd(), number) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(source) => {
                Err(Error::System { operation: "send", object: format!("signal {number}"), source })
            }
            Ok(()) => Ok(()),
        }
    }

    /// Kills everything in it. The end of the first process of a PID namespace is the end of
    /// all others; without a namespace of its own, and where that was not enough, the cgroup
    /// tells who belongs to it. On v1 one that is on its way may not be in it yet.
    pub(super) fn kill(&mut self) -> Result<(), Error> {
        let again = self.killed_at.is_some();
        self.killed_at.get_or_insert_with(Instant::now);
        self.signal(libc::SIGKILL)?;
        if self.shares_pid_namespace || again || !self.is_running() {
            return self.cgroup.kill();
        }
        self.cgroup.thaw_for_kill()
    }

    /// Why it has not ended, for people.
    pub(super) fn lingering(&self, id: &str) -> Error {
        Error::Child {
            kind: Kind::FailedPrecondition,
            message: format!("container {id} has not ended: {}", self.process_in_words()),
        }
    }

    /// What its first process is at (proc_pid_stat(5)).
    pub(super) fn process_in_words(&self) -> String {
        let pid = self.pid.as_raw_nonzero();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "));
        let (name, state) = name.map_or(("?", "?"), |(name, rest)| (name, rest));
        match state.chars().next() {
            Some('D') => format!(
                "process {pid} ({name}) waits in the kernel (state D), for a file system or a \
                 device that does not answer"
            ),
            Some('Z') => format!("process {pid} ({name}) has ended, others of it have not"),
            _ => format!("process {pid} ({name}) is there"),
        }
    }

    pub(super) fn state(&self, id: &str) -> v1::ContainerState {
        let (started_at, exited) = match &self.phase {
            Phase::Starting(_) => (0, None),
            Phase::Running { started_at } => (*started_at, None),
            Phase::Exited { started_at, exit } => (*started_at, Some(exit.clone())),
        };
        let pid = self.pid.as_raw_nonzero().get();
        let refused = self.refusals.as_ref().map(|refusals| refusals.counts(id));
        v1::ContainerState { container: id.to_owned(), pid, started_at, exited, refused }
    }
}
