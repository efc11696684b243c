//! Which namespaces a container gets new, and which it shares.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
};

use super::error::{During, Error};
use crate::sys::clone::{Cloned, SingleThreaded, clone3, setns};

/// The PID namespace that a container's processes live in.
#[derive(Debug, Clone, Copy)]
pub enum PidNamespace<'fd> {
    /// A new one, whose process 1 is the container's program.
    New,
    /// That of the caller: of the host.
    Inherit,
    /// An existing one, by descriptor.
    Join(BorrowedFd<'fd>),
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
    let clone = || clone3(proof, new, cgroup).during("clone", "process");
    let Some(pid_namespace) = pid_namespace else { return clone() };
    let own = File::open("/proc/self/ns/pid").during("open", "/proc/self/ns/pid")?;
    setns(pid_namespace, libc::CLONE_NEWPID).during("join", "PID namespace")?;
    let cloned = clone();
    // The child is where it belongs, and could not come back.
    if !matches!(cloned, Ok(Cloned::Child)) {
        setns(own.as_fd(), libc::CLONE_NEWPID).during("return to", "own PID namespace")?;
    }
    cloned
}
