//! One more process in a running container: a clone, a `setns`, and an `execve`.

use std::{
    convert::Infallible,
    os::fd::{BorrowedFd, OwnedFd},
};

use super::{
    bundle::ExecBundle,
    cgroup::Cgroup,
    console,
    error::{During, Error},
    namespaces::clone_into,
    process,
    report::Reporter,
    start::{Child, detach, finish, read_filter, read_json},
    stdio::{self, ChildStdio},
};
use crate::sys::{
    clone::{Cloned, SingleThreaded, setns},
    keyring::Keyring,
};

/// What to execute, and where.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// A file with an [`ExecBundle`] as JSON, which only the child reads.
    pub bundle: OwnedFd,
    /// A file with a compiled seccomp filter.
    pub filter: Option<OwnedFd>,
    /// A cgroup for this process and what it starts.
    pub cgroup: &'a Cgroup,
    /// The container's init process.
    pub init: BorrowedFd<'a>,
    /// The session keyring of the container.
    pub keyring: &'a Keyring,
    /// Standard streams.
    pub stdio: ChildStdio,
}

/// Starts a process in the namespaces of a container's init process.
///
/// # Errors
/// When no process can be cloned, or the container has ended.
pub fn exec(proof: &SingleThreaded, request: ExecRequest<'_>) -> Result<Child, Error> {
    let (reporter, report) = Reporter::pair().during("create", "report socket")?;
    match clone_into(proof, 0, request.cgroup.clone_target(), Some(request.init))? {
        Cloned::Parent { pid, pidfd } => Ok(Child { pid, pidfd, report }),
        Cloned::Child => {
            drop(report);
            finish(&reporter, become_process(request, &reporter))
        }
    }
}

fn become_process(request: ExecRequest<'_>, reporter: &Reporter) -> Result<Infallible, Error> {
    request.cgroup.join()?;
    detach(request.keyring)?;
    let ExecBundle { process, seccomp_flags, raw_environment } = read_json(request.bundle)?;
    let filter = request.filter.map(read_filter).transpose()?;
    process::prepare(&process)?;
    setns(request.init, libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP)
        .during("join", "namespaces of the container")?;
    match &request.stdio {
        ChildStdio::Streams { stdin, stdout, stderr } => {
            stdio::install(stdin.as_ref(), stdout, stderr)?;
        }
        ChildStdio::Terminal { rows, columns } => {
            console::open(reporter, *rows, *columns)?;
        }
    }
    let filter = filter.as_deref().map(|filter| (filter, seccomp_flags));
    process::run(&process, &raw_environment, filter, reporter, || Ok(()))
}
