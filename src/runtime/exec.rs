//! One more process in a running container: a clone, a `setns`, and an `execve`.

use std::os::fd::{BorrowedFd, OwnedFd};

use oci_spec::runtime::Process;

use super::{
    bundle::{ExecBundle, RawEnvironment, read_filter, read_json},
    cgroup::Cgroup,
    console,
    error::{During, Error},
    inside::{self, Inside},
    namespaces::{clone_into, ended},
    process,
    report::Reporter,
    rights,
    start::{Child, detach, give_up, join_keyring},
    stdio::{self, ChildStdio},
    users,
};
use crate::sys::{
    clone::{Cloned, SingleThreaded, setns},
    keyring::Keyring,
    seccomp::Instruction,
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
    /// Who is root in the container's user namespace on the host; none without one.
    pub users: Option<(u32, u32)>,
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
    match clone_into(proof, 0, request.cgroup.clone_target())? {
        Cloned::Parent { pid, pidfd } => Ok(Child { pid, pidfd, report }),
        Cloned::Child => {
            drop(report);
            become_process(proof, request, reporter)
        }
    }
}

fn become_process(proof: &SingleThreaded, request: ExecRequest<'_>, reporter: Reporter) -> ! {
    let init = request.init;
    let prepared = match rights::take_up().and_then(|()| prepare(request, &reporter)) {
        Ok(prepared) => prepared,
        Err(error) => give_up(&reporter, &error),
    };
    let Prepared { process, raw_environment, filter, has_terminal } = prepared;
    let filter = filter.as_ref().map(|(filter, flags)| (filter.as_slice(), *flags));
    let inside = Inside {
        namespace: init,
        process: &process,
        raw_environment: &raw_environment,
        hooks: None,
        filter,
        has_terminal,
    };
    let Err((error, reporter)) = inside::run(proof, reporter, &inside);
    give_up(&reporter, &error)
}

struct Prepared {
    process: Process,
    raw_environment: RawEnvironment,
    filter: Option<(Vec<Instruction>, u32)>,
    has_terminal: bool,
}

/// What is done outside of the container's PID namespace; lets go of all that was handed in.
fn prepare(request: ExecRequest<'_>, reporter: &Reporter) -> Result<Prepared, Error> {
    request.cgroup.join()?;
    detach();
    let ExecBundle { process, seccomp_flags, raw_environment } = read_json(request.bundle)?;
    let filter = request.filter.as_ref().map(read_filter).transpose()?;
    process::prepare(&process)?;
    join_keyring(request.keyring)?;
    if let Some((uid, _)) = request.users {
        let user = process.user().uid().saturating_add(uid);
        stdio::give_pipes_to(&request.stdio, user)?;
        users::enter(request.init)?;
    }
    match setns(request.init, libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Err(ended()),
        joined => joined.during("join", "namespaces of the container")?,
    }
    let has_terminal = match request.stdio {
        ChildStdio::Streams { stdin, stdout, stderr } => {
            stdio::install(stdin.as_ref(), &stdout, &stderr, None)?;
            false
        }
        ChildStdio::Terminal { rows, columns } => {
            drop(console::open(reporter, rows, columns)?);
            true
        }
    };
    let filter = filter.map(|filter| (filter, seccomp_flags));
    Ok(Prepared { process, raw_environment, filter, has_terminal })
}
