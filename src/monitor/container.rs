//! One container as the monitor sees it.
//!
//! ```text
//! Starting ──ready, end of report──► Running ──exit──► Exited ──delete──► (gone)
//!     └──failed, or killed on its way──► (gone; the start is answered with the failure)
//! ```

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use rustix::process::Pid;

use super::{log::Log, sources::Token, v1};
use crate::{
    runtime::{cgroup::Cgroup, error::Error},
    sys::signal,
};

/// Who waits for the answer to a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub connection: Token,
    pub request: u64,
}

/// A container's process, log and cgroup.
#[derive(Debug)]
pub(super) struct Container {
    pub cgroup: Cgroup,
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub phase: Phase,
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
    /// Whether the kernel's OOM kills count before this start, for a cgroup that was there.
    pub oom_kills_before: u64,
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
    /// Its first process has not executed the program yet.
    Starting { caller: Caller, report: Token, ready: bool, failure: Option<Error> },
    /// The program runs.
    Running { started_at: i64 },
    /// It has ended.
    Exited { started_at: i64, exit: v1::ContainerExited },
}

impl Container {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// Sends a signal to the first process. One that has ended needs none.
    pub(super) fn signal(&self, number: i32) -> Result<(), Error> {
        match signal::send(self.pidfd.as_fd(), number) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(source) => {
                Err(Error::System { operation: "send", object: format!("signal {number}"), source })
            }
            Ok(()) => Ok(()),
        }
    }

    /// Kills everything in it. The end of the first process of a PID namespace is the end of
    /// all others; without a namespace of its own the cgroup tells who belongs to it.
    pub(super) fn kill(&self) -> Result<(), Error> {
        if self.shares_pid_namespace {
            return self.cgroup.kill();
        }
        self.signal(libc::SIGKILL)
    }

    pub(super) fn state(&self, id: &str) -> v1::ContainerState {
        let (started_at, exited) = match &self.phase {
            Phase::Starting { .. } => (0, None),
            Phase::Running { started_at } => (*started_at, None),
            Phase::Exited { started_at, exit } => (*started_at, Some(exit.clone())),
        };
        let pid = self.pid.as_raw_nonzero().get();
        v1::ContainerState { container: id.to_owned(), pid, started_at, exited }
    }
}
