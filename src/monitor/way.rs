//! A process on its way to its program.

use rustix::process::Pid;

use super::sources::Token;
use crate::runtime::error::Error;

/// Who waits for the answer to a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub connection: Token,
    pub request: u64,
}

/// Who makes the process that executes a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Maker {
    /// It makes itself, or another one, or has told who it is.
    #[default]
    Itself,
    /// The helper has left it to a process that has not told yet who it is.
    Gone,
}

/// What is known of it by its reports.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Who waits for its program; none once it was told that this comes to nothing.
    pub caller: Option<Caller>,
    /// Where it reports; none when nothing more will come.
    pub report: Option<Token>,
    /// Where it reports after that.
    pub next: Option<Token>,
    pub maker: Maker,
    /// Whether it has come to the last step.
    pub ready: bool,
    pub failure: Option<Error>,
    /// Whether a runner of hooks reports beside it.
    pub has_runner: bool,
    /// How its program has ended while a hook after the start runs still.
    pub ended: Option<(i32, bool)>,
}

/// What a report has told beside that.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Who the process is.
    pub pid: Option<Pid>,
    /// The master side of its terminal.
    pub terminal: Option<std::os::fd::OwnedFd>,
    /// Where its filter asks.
    pub listener: Option<std::os::fd::OwnedFd>,
}

impl Way {
    /// Of a child that was just made.
    pub(super) fn new(caller: Caller, report: Token) -> Self {
        Self { caller: Some(caller), report: Some(report), ..Self::default() }
    }

    /// Whether nothing is left to be done but `execve`, of which only a failure is told.
    pub(super) fn is_last_step(&self) -> bool {
        self.ready && self.failure.is_none()
    }

    /// Whether a hook after the start may run still.
    pub(super) fn waits_for_runner(&self) -> bool {
        self.has_runner && self.report.is_some()
    }

    /// Whether its program runs.
    pub(super) fn has_arrived(&self) -> bool {
        self.report.is_none() && self.is_last_step()
    }

    /// Looks at a process that has nothing more to tell: where it was killed at its `execve`, as
    /// its filter may do, its program will never run, and its end brings the answer.
    pub(super) fn look_at(&mut self, pid: Pid) {
        if self.has_arrived() && !has_executed(pid) {
            self.ready = false;
        }
    }

    /// Whether it was killed before it could tell who it is: nobody's end will be its end.
    pub(super) fn is_lost(&self) -> bool {
        let told = self.report.is_some() || self.failure.is_some();
        !told && self.maker == Maker::Gone
    }
}

/// Whether a process that has closed its report did so by its `execve`. One that was killed there
/// has no memory any more, and still our name.
fn has_executed(pid: Pid) -> bool {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    match rustix::fs::readlink(format!("{process}/exe"), Vec::new()) {
        Err(rustix::io::Errno::NOENT) => {
            let name = |file: String| std::fs::read(file).ok();
            // A program that had little to do may have ended by now, under its own name.
            name(format!("{process}/comm")) != name("/proc/self/comm".to_owned())
        }
        _ => true,
    }
}
