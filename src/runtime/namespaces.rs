//! Which namespaces a container gets new, and which it shares.

use std::{io, os::fd::BorrowedFd};

use rustix::process::Pid;

use super::error::{During, Error};
use crate::{
    kind::Kind,
    sys::clone::{Cloned, SingleThreaded, clone3, setns},
};

/// The PID namespace that a container's processes live in.
#[derive(Debug, Clone, Copy)]
pub enum PidNamespace<'fd> {
    /// A new one, whose process 1 is the container's program.
    New,
    /// That of the caller: of the host.
    Inherit,
    /// That of a process, which is a child of the caller and was not waited for yet.
    Join(Member<'fd>),
}

impl<'fd> PidNamespace<'fd> {
    /// The process whose namespace is joined.
    pub(super) fn member(self) -> Option<Member<'fd>> {
        match self {
            PidNamespace::Join(member) => Some(member),
            PidNamespace::New | PidNamespace::Inherit => None,
        }
    }
}

/// A process of a PID namespace.
#[derive(Debug, Clone, Copy)]
pub struct Member<'fd> {
    /// Its id in the caller's PID namespace.
    pub pid: Pid,
    /// The same as a descriptor: the id of one that has ended may be another's by now.
    pub pidfd: BorrowedFd<'fd>,
}

/// That the first process of a PID namespace has ended.
pub fn ended() -> Error {
    Error::Child {
        kind: Kind::FailedPrecondition,
        message: "the first process of the PID namespace has ended".to_owned(),
    }
}

/// Clones this process: into new namespaces and a cgroup.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn clone_into(
    proof: &SingleThreaded,
    new: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Cloned, Error> {
    clone3(proof, new, cgroup).map_err(refused)
}

/// Lets the children of this process be in the PID namespace of another one.
///
/// # Errors
/// When that one has ended, or the kernel refuses.
pub(super) fn join_pid_namespace(process: BorrowedFd<'_>) -> Result<(), Error> {
    match setns(process, libc::CLONE_NEWPID) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(ended()),
        result => result.during("join", "PID namespace"),
    }
}

/// What a refused clone means.
pub(super) fn refused(source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EAGAIN) => Error::Child {
            kind: Kind::ResourceExhausted,
            message: "no more process can be started: the limit of processes of the container, \
                      its pod or the node is reached"
                .to_owned(),
        },
        // What the kernel says of a namespace whose first process is ending (clone(2)).
        Some(libc::ENOMEM) => ended(),
        _ => Error::System { operation: "clone", object: "process".to_owned(), source },
    }
}
