//! The start of a container: a clone, the mounts, and the `execve` of the user's program.

use std::{
    convert::Infallible,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use oci_spec::runtime::Spec;
use rustix::process::{Pid, setsid};
use serde::de::DeserializeOwned;

use super::{
    bundle::Bundle,
    cgroup::Cgroup,
    console, declared, devices,
    error::{During, Error},
    hooks, mask, mounts,
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
    seccomp, signal,
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
    /// Whether the spec has hooks that run outside the container.
    pub has_outer_hooks: bool,
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
}

/// Starts a container and returns before its program runs; what becomes of it is reported.
///
/// # Errors
/// When no process can be cloned.
pub fn start(proof: &SingleThreaded, request: StartRequest<'_>) -> Result<Child, Error> {
    let (reporter, report) = Reporter::pair().during("create", "report socket")?;
    let (flags, join) = match request.pid {
        PidNamespace::New => (libc::CLONE_NEWNS | libc::CLONE_NEWPID, None),
        PidNamespace::Inherit => (libc::CLONE_NEWNS, None),
        PidNamespace::Join(namespace) => (libc::CLONE_NEWNS, Some(namespace)),
    };
    let link = request.has_outer_hooks.then(hooks::Link::pair).transpose();
    let (link, of_runner) = link.during("create", "socket for hooks")?.unzip();
    match clone_into(proof, flags, request.cgroup.clone_target(), join)? {
        Cloned::Parent { pid, pidfd } => {
            drop(link);
            if let Some(link) = of_runner {
                let (bundle, pidfd) = (request.bundle.as_fd(), pidfd.as_fd());
                let runner = hooks::Runner { link, reporter: &reporter, bundle, pid, pidfd };
                hooks::launch(proof, runner)?;
            }
            Ok(Child { pid, pidfd, report })
        }
        Cloned::Child => {
            drop((report, of_runner));
            let Err(error) = become_container(request, &reporter, link.as_ref());
            reporter.failed(&error);
            link.as_ref().map(hooks::Link::failed);
            exit(128)
        }
    }
}

/// The end of a child that could not become its program.
pub(super) fn finish(reporter: &Reporter, result: Result<Infallible, Error>) -> ! {
    let Err(error) = result;
    reporter.failed(&error);
    exit(128)
}

/// Every step in its order; each has the reason for its place in the function it calls.
fn become_container(
    request: StartRequest<'_>,
    reporter: &Reporter,
    link: Option<&hooks::Link>,
) -> Result<Infallible, Error> {
    request.cgroup.join()?;
    detach(request.keyring)?;
    let bundle: Bundle = read_json(request.bundle)?;
    let hooks = hooks::Own::of(&bundle);
    let Bundle { spec, rootfs, mount_point, volumes, .. } = &bundle;
    let filter = request.filter.map(read_filter).transpose()?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::spec("process", "the spec has no process to execute"))?;
    // Only now, inside the cgroup: its root is where this process is.
    unshare(libc::CLONE_NEWCGROUP).during("create", "cgroup namespace")?;
    process::prepare(process)?;

    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let sources = mounts::prepare(mounts)?;
    let volumes = declared::prepare(volumes)?;
    rootfs::isolate()?;
    let root = rootfs::attach(rootfs, mount_point)?;
    declared::attach(root.as_fd(), volumes)?;
    mounts::attach_all(root.as_fd(), sources)?;
    devices::create(root.as_fd(), linux_list(spec, |linux| linux.devices()), mounts)?;
    link.map_or(Ok(()), hooks::Link::created)?;
    hooks.as_ref().map_or(Ok(()), |hooks| hooks.create_container(reporter))?;
    rootfs::pivot(root.as_fd())?;
    drop(root);

    match &request.stdio {
        ChildStdio::Streams { stdin, stdout, stderr } => {
            stdio::install(stdin.as_ref(), stdout, stderr)?;
        }
        ChildStdio::Terminal { rows, columns } => {
            let terminal = console::open(reporter, *rows, *columns)?;
            console::bind(terminal.as_fd())?;
        }
    }
    mask::make_read_only(linux_list(spec, |linux| linux.readonly_paths()))?;
    mask::mask(linux_list(spec, |linux| linux.masked_paths()))?;
    process::make_working_directory(process.cwd());
    let propagation = spec.linux().as_ref().and_then(|l| l.rootfs_propagation().clone());
    let read_only = spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
    rootfs::finish(propagation.as_deref(), read_only)?;

    let filter = filter.as_deref().map(|filter| (filter, request.filter_flags));
    process::run(process, &bundle.raw_environment, filter, reporter, || {
        hooks.as_ref().map_or(Ok(()), |hooks| hooks.start_container(reporter))?;
        link.map_or(Ok(()), hooks::Link::executing)
    })
}

fn linux_list<T>(spec: &Spec, get: impl Fn(&oci_spec::runtime::Linux) -> &Option<Vec<T>>) -> &[T] {
    spec.linux().as_ref().and_then(|linux| get(linux).as_deref()).unwrap_or_default()
}

/// A session of its own, the container's keyring, and nothing else of what the daemon was
/// started with. Inside the cgroup, which says what processors there are.
pub(super) fn detach(keyring: &Keyring) -> Result<(), Error> {
    setsid().during("create", "session")?;
    join_keyring(keyring)?;
    inherited::reset();
    signal::reset();
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}

/// Where the quota of keys is used up, the keyring of the monitor stays, which has no keys.
fn join_keyring(keyring: &Keyring) -> Result<(), Error> {
    match keyring.join() {
        Err(error) if error.raw_os_error() == Some(libc::EDQUOT) => Ok(()),
        result => result.during("join", "session keyring"),
    }
}

pub(super) fn read_json<T: DeserializeOwned>(file: OwnedFd) -> Result<T, Error> {
    read_json_at(file.as_fd())
}

/// The same of a file that others read too, each from its beginning.
pub(super) fn read_json_at<T: DeserializeOwned>(file: BorrowedFd<'_>) -> Result<T, Error> {
    let bytes = read_whole(file)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::spec("spec", format!("does not parse: {error}")))
}

pub(super) fn read_filter(file: OwnedFd) -> Result<Vec<seccomp::Instruction>, Error> {
    Ok(seccomp::from_bytes(&read_whole(file.as_fd())?))
}

/// By positions of its own: the position of the descriptor belongs to all who have it.
fn read_whole(file: BorrowedFd<'_>) -> Result<Vec<u8>, Error> {
    let size = rustix::fs::fstat(file).during("inspect", "bundle")?.st_size;
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(file, &mut bytes[filled..], filled as u64) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => bytes.truncate(filled),
            length => filled += length.during("read", "bundle")?,
        }
    }
    Ok(bytes)
}
