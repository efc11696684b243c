//! One exec as the monitor sees it.

use std::os::fd::OwnedFd;

use rustix::process::Pid;

use super::{container::Caller, sources::Token};
use crate::runtime::{cgroup::Cgroup, error::Error};

/// An exec's process and the cgroup of all that it starts.
#[derive(Debug)]
pub(super) struct Exec {
    pub container: String,
    pub cgroup: Cgroup,
    pub pid: Pid,
    pub caller: Caller,
    /// Until the program runs.
    pub report: Option<Token>,
    pub ready: bool,
    pub failure: Option<Error>,
    /// The master side of its terminal, until it is handed over.
    pub terminal: Option<OwnedFd>,
}
