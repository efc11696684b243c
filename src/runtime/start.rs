//! The start of a container: a clone, the mounts, and the `execve` of the user's program.

use std::{
    fs::File,
    io::{Read, Seek},
    os::fd::{AsFd, OwnedFd},
};

use oci_spec::runtime::Spec;
use rustix::process::Pid;
use serde::de::DeserializeOwned;

use super::{
    bundle::Bundle,
    cgroup::Cgroup,
    console, devices,
    error::{During, Error},
    inside::{self, Inside},
    mask, mounts,
    namespaces::{PidNamespace, clone_into},
    process,
    report::Reporter,
    rootfs,
    stdio::{self, ChildStdio},
};
use crate::sys::{
    clone::{Cloned, SingleThreaded, unshare},
    exec::exit,
    inherited,
    keyring::Keyring,
    seccomp::{self, Instruction},
    signal,
};

/// What to start. The network, IPC and UTS namespaces are those of the caller.
#[derive(Debug)]
pub struct StartRequest<'a> {
    /// A file with a [`Bundle`] as JSON. Only the child reads it, so that the memory of the
    /// caller does not grow with it.
    pub bundle: OwnedFd,
    /// A file with a compiled seccomp filter.
    pub filter: Option<OwnedFd>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub filter_flags: u32,
    /// The cgroup to start in.
    pub cgroup: &'a Cgroup,
    /// The PID namespace.
    pub pid: PidNamespace<'a>,
    /// The session keyring that its processes get.
    pub keyring: &'a Keyring,
    /// Standard streams.
    pub stdio: ChildStdio,
}

/// A child that is on its way to its program.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's PID namespace.
    pub pid: Pid,
    /// Refers to it whatever becomes of its id.
    pub pidfd: OwnedFd,
    /// Where it reports; see [`super::report`].
    pub report: OwnedFd,
    /// Whether it is another process that executes the program, which it makes last.
    pub is_helper: bool,
}

/// Starts a container and returns before its program runs; what becomes of it is reported.
///
/// # Errors
/// When no process can be cloned.
pub fn start(proof: &SingleThreaded, request: StartRequest<'_>) -> Result<Child, Error> {
    let (reporter, report) = Reporter::pair().during("create", "report socket")?;
    let flags = match request.pid {
        PidNamespace::New => libc::CLONE_NEWNS | libc::CLONE_NEWPID,
        PidNamespace::Inherit | PidNamespace::Join(_) => libc::CLONE_NEWNS,
    };
    let is_helper = matches!(request.pid, PidNamespace::Join(_));
    match clone_into(proof, flags, request.cgroup.clone_target())? {
        Cloned::Parent { pid, pidfd } => Ok(Child { pid, pidfd, report, is_helper }),
        Cloned::Child => {
            drop(report);
            become_container(proof, request, reporter)
        }
    }
}

/// The end of a child that could not become its program.
pub(super) fn give_up(reporter: &Reporter, error: &Error) -> ! {
    reporter.failed(error);
    exit(128)
}

fn become_container(proof: &SingleThreaded, request: StartRequest<'_>, reporter: Reporter) -> ! {
    let pid = request.pid;
    let filter_flags = request.filter_flags;
    let Prepared { spec, filter, has_terminal } = match prepare(request, &reporter) {
        Ok(prepared) => prepared,
        Err(error) => give_up(&reporter, &error),
    };
    let Some(process) = spec.process() else { give_up(&reporter, &no_process()) };
    let filter = filter.as_deref().map(|filter| (filter, filter_flags));
    let (error, reporter) = match pid {
        // Nobody else is there.
        PidNamespace::New => (process::run(process, filter, has_terminal, &reporter), reporter),
        // Those who may trace others there may trace everybody on this node.
        PidNamespace::Inherit => (process::run(process, filter, has_terminal, &reporter), reporter),
        PidNamespace::Join(member) => {
            let namespace = member.pidfd;
            let inside = Inside { namespace, process, filter, has_terminal };
            let Err((error, reporter)) = inside::run(proof, reporter, &inside);
            (Err(error), reporter)
        }
    };
    let Err(error) = error;
    give_up(&reporter, &error)
}

fn no_process() -> Error {
    Error::spec("process", "the spec has no process to execute")
}

struct Prepared {
    spec: Spec,
    filter: Option<Vec<Instruction>>,
    has_terminal: bool,
}

/// Every step before the program in its order; each has the reason for its place in the
/// function it calls. Lets go of all that was handed in.
fn prepare(request: StartRequest<'_>, reporter: &Reporter) -> Result<Prepared, Error> {
    request.cgroup.join()?;
    detach();
    let Bundle { spec, rootfs, mount_point } = read_json(request.bundle)?;
    let filter = request.filter.map(read_filter).transpose()?;
    let process = spec.process().as_ref().ok_or_else(no_process)?;
    // Only now, inside the cgroup: its root is where this process is.
    unshare(libc::CLONE_NEWCGROUP).during("create", "cgroup namespace")?;
    process::prepare(process)?;
    join_keyring(request.keyring)?;

    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let sources = mounts::prepare(mounts)?;
    rootfs::isolate()?;
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    let root = rootfs::attach(&rootfs, &mount_point, label)?;
    let member = match request.pid {
        PidNamespace::Join(member) => Some(member),
        PidNamespace::New | PidNamespace::Inherit => None,
    };
    mounts::attach_all(root.as_fd(), sources, member)?;
    devices::create(root.as_fd(), linux_list(&spec, |linux| linux.devices()), mounts)?;
    rootfs::pivot(root.as_fd())?;
    drop(root);

    let has_terminal = match request.stdio {
        ChildStdio::Streams { stdin, stdout, stderr } => {
            stdio::install(stdin.as_ref(), &stdout, &stderr, label)?;
            false
        }
        ChildStdio::Terminal { rows, columns } => {
            let terminal = console::open(reporter, rows, columns)?;
            console::bind(terminal.as_fd())?;
            true
        }
    };
    mask::make_read_only(linux_list(&spec, |linux| linux.readonly_paths()))?;
    mask::mask(linux_list(&spec, |linux| linux.masked_paths()), label)?;
    process::make_working_directory(process.cwd());
    let propagation = spec.linux().as_ref().and_then(|l| l.rootfs_propagation().clone());
    let read_only = spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
    rootfs::finish(propagation.as_deref(), read_only)?;
    Ok(Prepared { spec, filter, has_terminal })
}

fn linux_list<T>(spec: &Spec, get: impl Fn(&oci_spec::runtime::Linux) -> &Option<Vec<T>>) -> &[T] {
    spec.linux().as_ref().and_then(|linux| get(linux).as_deref()).unwrap_or_default()
}

/// Nothing is left of what the daemon was started with. Inside the cgroup, which says what
/// processors there are.
pub(super) fn detach() {
    inherited::reset();
    signal::reset();
    rustix::process::umask(rustix::fs::Mode::empty());
}

/// Once the process has its labels, since the first one makes the keyring with its own. Where the
/// quota of keys is used up, the keyring of the monitor stays, which has no keys.
pub(super) fn join_keyring(keyring: &Keyring) -> Result<(), Error> {
    match keyring.join() {
        Err(error) if error.raw_os_error() == Some(libc::EDQUOT) => Ok(()),
        result => result.during("join", "session keyring"),
    }
}

pub(super) fn read_json<T: DeserializeOwned>(file: OwnedFd) -> Result<T, Error> {
    let bytes = read_whole(file)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::spec("spec", format!("does not parse: {error}")))
}

pub(super) fn read_filter(file: OwnedFd) -> Result<Vec<seccomp::Instruction>, Error> {
    Ok(seccomp::from_bytes(&read_whole(file)?))
}

fn read_whole(file: OwnedFd) -> Result<Vec<u8>, Error> {
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).during("read", "bundle")?;
    Ok(bytes)
}
