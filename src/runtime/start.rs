//! The start of a container: a clone, the mounts, and the `execve` of the user's program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::Spec;
use rustix::process::{Pid, chdir};

use super::{
    bundle::{Bundle, read_filter, read_json},
    cgroup::Cgroup,
    console, declared, devices,
    error::{During, Error},
    ground::Ground,
    hooks,
    inside::{self, Inside},
    mask, mounts,
    namespaces::{PidNamespace, clone_into, refused},
    proc, process,
    report::Reporter,
    rights, rootfs,
    stdio::{self, ChildStdio},
    users::{self, Users},
};
use crate::sys::{
    clone::{Cloned, SingleThreaded, clone_beside, unshare},
    exception::Exception,
    exec::exit,
    inherited,
    keyring::Keyring,
    seccomp::Instruction,
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
    /// The user namespace; none for that of the caller.
    pub users: Option<Users<'a>>,
    /// The session keyring that its processes get.
    pub keyring: &'a Keyring,
    /// Standard streams.
    pub stdio: ChildStdio,
    /// Whether the spec has hooks that run outside the container.
    pub has_outer_hooks: bool,
    /// See [`super::ground::template`]; without one the host's mounts are copied.
    pub template: Option<BorrowedFd<'a>>,
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
    let flags = match (&request.users, request.pid) {
        (None, PidNamespace::New) => libc::CLONE_NEWPID,
        _ => 0,
    };
    let link = request.has_outer_hooks.then(hooks::Link::pair).transpose();
    let (link, of_runner) = link.during("create", "socket for hooks")?.unzip();
    match clone_into(proof, flags, request.cgroup.clone_target())? {
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
            become_container(proof, request, reporter, link)
        }
    }
}

/// The end of a child that could not become its program.
pub(super) fn give_up(reporter: &Reporter, error: &Error) -> ! {
    reporter.failed(error);
    exit(128)
}

fn become_container(
    proof: &SingleThreaded,
    request: StartRequest<'_>,
    reporter: Reporter,
    link: Option<hooks::Link>,
) -> ! {
    let (pid, filter_flags, users) = (request.pid, request.filter_flags, request.users);
    let (outside, namespace) = match rights::take_up().and_then(|()| prepare(request)) {
        Ok(prepared) => prepared,
        Err(error) => give_up(&reporter, &error),
    };
    let reporter = match users {
        None => reporter,
        Some(users) => match enter(proof, &users, pid, reporter) {
            Ok(reporter) => reporter,
            Err((error, reporter)) => give_up(&reporter, &error),
        },
    };
    let Prepared { bundle, filter, has_terminal } = match assemble(outside, &reporter, &link) {
        Ok(prepared) => prepared,
        Err(error) => give_up(&reporter, &error),
    };
    let Some(process) = bundle.spec.process() else { give_up(&reporter, &no_process()) };
    let raw_environment = &bundle.raw_environment;
    let hooks = hooks::Own::of(&bundle);
    let filter = filter.as_deref().map(|filter| (filter, filter_flags));
    let Some(namespace) = namespace else {
        // Nobody else is there; or those who may trace others there may trace everybody on this
        // node.
        let last_step = || {
            hooks.as_ref().map_or(Ok(()), |hooks| hooks.start_container(&reporter))?;
            link.as_ref().map_or(Ok(()), hooks::Link::executing)
        };
        let Err(error) =
            process::run(process, raw_environment, filter, has_terminal, &reporter, last_step);
        reporter.failed(&error);
        link.as_ref().map(hooks::Link::failed);
        exit(128)
    };
    // Nothing of it is to be in there: the runner has nothing more to do.
    drop(link);
    // It lasts as long as this process.
    let namespace = std::mem::ManuallyDrop::new(namespace);
    let namespace = namespace.as_fd();
    let hooks = hooks.as_ref();
    let inside = Inside { namespace, process, raw_environment, hooks, filter, has_terminal };
    let Err((error, reporter)) = inside::run(proof, reporter, &inside);
    give_up(&reporter, &error)
}

fn no_process() -> Error {
    Error::spec("process", "the spec has no process to execute")
}

/// Goes on in a process of the pod's user namespace, whose own namespaces are that one's.
fn enter(
    proof: &SingleThreaded,
    users: &Users<'_>,
    pid: PidNamespace<'_>,
    reporter: Reporter,
) -> Result<Reporter, (Error, Reporter)> {
    let last = reporter.hand_over_to_another().during("create", "report socket");
    let last = match last {
        Ok(last) => last,
        Err(error) => return Err((error, reporter)),
    };
    drop(reporter);
    let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
    if matches!(pid, PidNamespace::New) {
        namespaces |= libc::CLONE_NEWPID;
    }
    let cloned = users::enter(users.namespace).and_then(|()| {
        let exception = Exception::new().during("read", "random bytes")?;
        clone_beside(proof, namespaces, &exception).map_err(refused)
    });
    match cloned {
        Ok(Some(_)) => exit(0),
        Ok(None) => Ok(last),
        Err(error) => Err((error, last)),
    }
}

/// What was opened with the rights that the monitor has.
struct Outside {
    bundle: Bundle,
    filter: Option<Vec<Instruction>>,
    root: rootfs::Mounted,
    mounts: Vec<mounts::Prepared>,
    volumes: declared::Prepared,
    has_users: bool,
    stdio: ChildStdio,
}

struct Prepared {
    bundle: Bundle,
    filter: Option<Vec<Instruction>>,
    has_terminal: bool,
}

/// What needs the host: its files, its mounts, and rights that the container has not. Ends in
/// the mount namespace that becomes the container's. Returns the PID namespace to join as well.
fn prepare(request: StartRequest<'_>) -> Result<(Outside, Option<OwnedFd>), Error> {
    request.cgroup.join()?;
    detach();
    let bundle: Bundle = read_json(request.bundle)?;
    let Bundle { spec, rootfs, mount_point, volumes, .. } = &bundle;
    let filter = request.filter.as_ref().map(read_filter).transpose()?;
    let process = spec.process().as_ref().ok_or_else(no_process)?;
    let users = request.users.as_ref();
    match users {
        // Only now, inside the cgroup: its root is where this process is.
        None => unshare(libc::CLONE_NEWCGROUP).during("create", "cgroup namespace")?,
        Some(users) => {
            let user = process.user().uid().saturating_add(users.root.0);
            stdio::give_pipes_to(&request.stdio, user)?;
        }
    }
    process::prepare(process)?;
    join_keyring(request.keyring)?;

    let member = request.pid.member();
    let devices = linux_list(spec, |linux| linux.devices());
    let whom = mounts::For { users, member, devices };
    let mut mounts = mounts::open(spec.mounts().as_deref().unwrap_or_default(), whom)?;
    let hooks = hooks::Own::of(&bundle);
    let hooks = hooks.as_ref();
    hooks.map_or(Ok(()), |hooks| hooks.check(member.is_some(), users.is_some()))?;
    let label = label_of(spec);
    let volumes = declared::prepare(volumes, users.map(|users| users.root), label)?;
    let root = rootfs::open(rootfs, users, label)?;
    // Who has entered a user namespace can join this one, and may not look for it.
    let namespace = member.map(proc::pid_namespace).transpose()?;

    let needs_host =
        root.needs_host() || volumes.need_host() || hooks.is_some_and(hooks::Own::need_host);
    let ground = match request.template.filter(|_| !needs_host) {
        Some(template) => Ground::Template(template),
        None => Ground::Host(mount_point),
    };
    ground.enter(users.is_some())?;
    mounts::mount_volumes(&mut mounts, ground.place())?;
    let root = root.mount(ground.place(), label)?;
    chdir(ground.place()).during("enter", ground.place().display())?;
    let (has_users, stdio) = (users.is_some(), request.stdio);
    Ok((Outside { bundle, filter, root, mounts, volumes, has_users, stdio }, namespace))
}

/// Every step from there to the program in its order; each has the reason for its place in the
/// function it calls. Lets go of all that was handed in.
fn assemble(
    outside: Outside,
    reporter: &Reporter,
    link: &Option<hooks::Link>,
) -> Result<Prepared, Error> {
    let Outside { bundle, filter, root, mounts, volumes, has_users, stdio } = outside;
    let spec = &bundle.spec;
    let process = spec.process().as_ref().ok_or_else(no_process)?;
    let label = label_of(spec);
    let root = root.attach_here()?;
    declared::attach(root.as_fd(), volumes)?;
    mounts::attach_all(root.as_fd(), mounts)?;
    if !has_users {
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        devices::create(root.as_fd(), linux_list(spec, |linux| linux.devices()), mounts)?;
    }
    link.as_ref().map_or(Ok(()), hooks::Link::created)?;
    hooks::Own::of(&bundle).map_or(Ok(()), |hooks| hooks.create_container(reporter))?;
    rootfs::pivot(root.as_fd())?;
    drop(root);

    let has_terminal = match stdio {
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
    mask::make_read_only(linux_list(spec, |linux| linux.readonly_paths()))?;
    mask::mask(linux_list(spec, |linux| linux.masked_paths()), label)?;
    process::make_working_directory(process.cwd());
    let propagation = spec.linux().as_ref().and_then(|l| l.rootfs_propagation().clone());
    let read_only = spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
    rootfs::finish(propagation.as_deref(), read_only)?;
    Ok(Prepared { bundle, filter, has_terminal })
}

/// What SELinux knows the container's files by.
fn label_of(spec: &Spec) -> Option<&str> {
    spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref())
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
