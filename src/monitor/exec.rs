//! One exec as the monitor sees it.

use std::{os::fd::OwnedFd, time::Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::way::{Maker, Way};
use crate::runtime::{cgroup::Cgroup, error::Error};

/// An exec's process and the cgroup of all that it starts.
#[derive(Debug)]
pub(super) struct Exec {
    pub container: String,
    pub cgroup: Cgroup,
    pub pid: Pid,
    pub way: Way,
    /// The master side of its terminal, until it is handed over.
    pub terminal: Option<OwnedFd>,
    /// When all that it has started is killed.
    pub deadline: Option<Instant>,
    /// The same, for when its program runs.
    pub timeout: Option<Instant>,
    /// When it was, first.
    pub killed_at: Option<Instant>,
    /// Whether that was because its time was over.
    pub timed_out: bool,
}

impl Exec {
    /// Whether its program runs.
    pub(super) fn is_running(&self) -> bool {
        self.way.has_arrived()
    }

    /// The child that is its process, or is about to be.
    pub(super) fn is_child(&self, pid: Pid) -> bool {
        self.pid == pid && self.way.maker != Maker::Gone
    }

    /// Kills all that it has started.
    pub(super) fn kill(&mut self) -> Result<(), Error> {
        self.killed_at.get_or_insert_with(Instant::now);
        // On v1 it may not have joined its cgroup yet. It is a child that was not reaped, so
        // that its id is nobody else's.
        if self.way.maker != Maker::Gone {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        self.cgroup.kill()
    }
}

/// The cgroup of an exec that has ended.
#[derive(Debug)]
pub(super) struct LeftBehind {
    pub cgroup: Cgroup,
    /// When what is in it is killed, again and again until nothing is.
    pub kill_at: Option<Instant>,
}

impl LeftBehind {
    /// Removes it, where nothing is in it any more.
    pub(super) fn is_removed(&self) -> bool {
        self.cgroup.is_empty().is_ok_and(|empty| empty) && self.cgroup.remove().is_ok()
    }
}
