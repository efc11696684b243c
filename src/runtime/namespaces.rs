//! Which namespaces a container gets new, and which it shares.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
};

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
    /// That of a process, by its pidfd: the id of one that has ended may be another's by now.
    Join(BorrowedFd<'fd>),
}

fn ended() -> Error {
    Error::Child {
        kind: Kind::FailedPrecondition,
        message: "the first process of the PID namespace has ended".to_owned(),
    }
}

/// Clones this process: into new namespaces, a cgroup, and an existing PID namespace.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn clone_into(
    proof: &SingleThreaded,
    new: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
    pid_namespace: Option<BorrowedFd<'_>>,
) -> Result<Cloned, Error> {
    let clone = || match clone3(proof, new, cgroup) {
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Err(Error::Child {
            kind: Kind::ResourceExhausted,
            message: "no more process can be started: the limit of processes of the container, \
                      its pod or the node is reached"
                .to_owned(),
        }),
        result => result.during("clone", "process"),
    };
    let Some(pid_namespace) = pid_namespace else { return clone() };
    let own = File::open("/proc/self/ns/pid").during("open", "/proc/self/ns/pid")?;
    match setns(pid_namespace, libc::CLONE_NEWPID) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Err(ended()),
        result => result.during("join", "PID namespace")?,
    }
    let cloned = match clone() {
        // What the kernel says of a namespace whose first process is ending (clone(2)).
        Err(Error::System { source, .. }) if source.raw_os_error() == Some(libc::ENOMEM) => {
            Err(ended())
        }
        cloned => cloned,
    };
    // The child is where it belongs, and could not come back.
    if !matches!(cloned, Ok(Cloned::Child)) {
        setns(own.as_fd(), libc::CLONE_NEWPID).during("return to", "own PID namespace")?;
    }
    cloned
}
