//! The init of a PID namespace that the containers of a pod share.
//!
//! It is a copy of the monitor that executes nothing: its program is the monitor's, which no
//! container can change, and its root is a read-only directory with nothing in it but the
//! namespace's own procfs, so that nothing of the host can be reached through `/proc/1`. It has
//! no capability either: a container that may trace the processes of its pod would make those
//! its own. For the same reason it lies in a cgroup below the pod's that has no devices and one
//! process, and behind a filter that leaves it what it needs to reap. It ends with the monitor.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxPids, LinuxResources};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, mkdirat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change,
        move_mount, unmount,
    },
    process::{Pid, PidfdFlags, Signal, WaitOptions, chdir, fchdir, pidfd_open, pivot_root, wait},
};

use crate::{
    kind::Kind,
    runtime::{
        cgroup::{Cgroup, Version},
        error::{During, Error},
        process, users,
    },
    sys::{
        clone::{Cloned, SingleThreaded, clone_beside, clone3},
        exception::Exception,
        exec, inherited,
        mount::{MountAttributes, mount_setattr},
        seccomp, signal, socket,
    },
};

/// What [`reap_for_ever`] calls and what the kernel calls for it, and the end of [`start`].
const CALLS: [libc::c_long; 8] = [
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The running init.
#[derive(Debug)]
pub(super) struct Init {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    /// Its own; none where the daemon names none.
    pub cgroup: Option<Cgroup>,
}

/// Starts the init of a new PID namespace in a cgroup that is made for it. `mount_point` is
/// any directory. Returns when it has no rights left: then containers may come and trace it.
pub(super) fn start(
    proof: &SingleThreaded,
    mount_point: &Path,
    cgroup: Option<&Path>,
    users: Option<BorrowedFd<'_>>,
) -> Result<Init, Error> {
    // With users of its own there is a helper for a moment.
    let most = if users.is_some() { 2 } else { 1 };
    let cgroup = cgroup.map(|path| make_cgroup(path, most)).transpose()?;
    let (parent, child) = socket::pair().during("create", "socket")?;
    rustix::net::sockopt::set_socket_passcred(&parent, true).during("prepare", "socket")?;
    let target = cgroup.as_ref().and_then(Cgroup::clone_target);
    let own = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let flags = if users.is_some() { 0 } else { own };
    match clone3(proof, flags, target).during("clone", "init of the pod") {
        Err(error) => {
            // Nothing ever ran in it.
            let _ = cgroup.map(|cgroup| cgroup.remove());
            Err(error)
        }
        Ok(Cloned::Parent { pid, pidfd }) => {
            drop(child);
            let (pid, pidfd) = match users {
                None => (pid, pidfd),
                // The one that this one has left it to.
                Some(_) => its_child(parent.as_fd())?,
            };
            // Its end, by whatever, ends this as well, and is told by its parent's signal.
            wait_for(parent.as_fd(), PollFlags::HUP)?;
            if let Some(cgroup) = cgroup.as_ref().filter(|_| most > 1) {
                // Where they are not counted, the filter refuses a second one.
                let _ = cgroup.apply(&at_most(1));
            }
            Ok(Init { pid, pidfd, cgroup })
        }
        Ok(Cloned::Child) => {
            if cgroup.as_ref().is_some_and(|cgroup| cgroup.join().is_err()) {
                exec::exit(1)
            }
            // Root of the namespace may not be able to get there by a path.
            if chdir(mount_point).is_err() {
                exec::exit(1)
            }
            if let Some(users) = users {
                go_on_in(proof, users, own, child.as_fd());
            }
            inherited::reset();
            signal::reset();
            signal::block(libc::SIGCHLD);
            for ignored in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                signal::ignore(ignored);
            }
            if enter_empty_root().is_err() {
                exec::exit(1)
            }
            exec::close_all_but(child.as_fd());
            if give_up_rights().is_err() {
                exec::exit(1)
            }
            drop(child);
            reap_for_ever()
        }
    }
}

/// Leaves it to a process in the pod's user namespace, which says that it is there, and returns
/// there alone.
fn go_on_in(
    proof: &SingleThreaded,
    users: BorrowedFd<'_>,
    namespaces: libc::c_int,
    parent: BorrowedFd<'_>,
) {
    let cloned = users::enter(users).and_then(|()| {
        let exception = Exception::new().during("read", "random bytes")?;
        clone_beside(proof, namespaces, &exception).during("clone", "init of the pod")
    });
    match cloned {
        Ok(None) if rustix::io::write(parent, b"i").is_ok() => {}
        Ok(Some(_)) => exec::exit(0),
        _ => exec::exit(1),
    }
}

/// The process that has said that it is there, by what the kernel says of it.
fn its_child(socket: BorrowedFd<'_>) -> Result<(Pid, OwnedFd), Error> {
    wait_for(socket, PollFlags::IN)?;
    let (_, _, sender) = socket::receive_from(socket, &mut [0; 1]).during("hear of", INIT)?;
    let gone = || Error::Child {
        kind: Kind::Internal,
        message: "the init of the pod ended before it was there".to_owned(),
    };
    let pid = sender.ok_or_else(gone)?;
    Ok((pid, pidfd_open(pid, PidfdFlags::empty()).during("open", INIT)?))
}

/// Waits until there is something to read, or nobody writes any more.
fn wait_for(socket: BorrowedFd<'_>, what: PollFlags) -> Result<(), Error> {
    let mut polled = [PollFd::from_borrowed_fd(socket, what)];
    while !polled[0].revents().intersects(what | PollFlags::HUP) {
        rustix::io::retry_on_intr(|| poll(&mut polled, None)).during("wait for", INIT)?;
    }
    Ok(())
}

const INIT: &str = "init of the pod";

fn at_most(processes: i64) -> LinuxResources {
    let mut pids = LinuxPids::default();
    pids.set_limit(processes);
    let mut limits = LinuxResources::default();
    limits.set_pids(Some(pids));
    limits
}

/// No devices, and no second process once it is there. A node whose cgroups do not count
/// processes has the filter, which refuses them as well.
fn make_cgroup(path: &Path, most: i64) -> Result<Cgroup, Error> {
    let version = Version::detect().during("inspect", "cgroups")?;
    let mut none = LinuxDeviceCgroup::default();
    none.set_allow(false).set_typ(Some(LinuxDeviceType::A)).set_access(Some("rwm".to_owned()));
    let mut limits = at_most(most);
    limits.set_devices(Some(vec![none]));
    match Cgroup::create(version, path, Some(&limits)) {
        Err(Error::Controller { .. }) => {
            limits.set_pids(None);
            Cgroup::create(version, path, Some(&limits))
        }
        created => created,
    }
}

/// At the working directory.
fn enter_empty_root() -> Result<(), Error> {
    let object = "empty root of the pod's init";
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .during("stop propagation of", "/")?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during("open", object)?;
    fsconfig_set_string(&context, "nr_inodes", "2").during("limit", object)?;
    fsconfig_create(&context).during("create", object)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = |context, attributes| {
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).during("mount", object)
    };
    let tree = mount(&context, attributes)?;
    mkdirat(&tree, "proc", Mode::from_raw_mode(0o555)).during("fill", object)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let here = flags | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", rustix::fs::CWD, "", here).during("attach", object)?;
    fchdir(&tree).during("enter", object)?;
    // The one of this namespace, for containers that come into it.
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).during("open", object)?;
    fsconfig_create(&context).during("create", object)?;
    let proc = mount(&context, attributes)?;
    move_mount(&proc, "", rustix::fs::CWD, "proc", flags).during("attach", object)?;
    let read_only = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() };
    mount_setattr(tree.as_fd(), read_only, false).during("protect", object)?;
    pivot_root(".", ".").during("change to", object)?;
    unmount(".", UnmountFlags::DETACH).during("detach", "root of the host")
}

fn give_up_rights() -> Result<(), Error> {
    process::drop_all_capabilities()?;
    rustix::thread::set_no_new_privs(true).during("set", "no_new_privs of the pod's init")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during("tie to the monitor", "init of the pod")?;
    seccomp::load(&seccomp::only(&CALLS), 0).during("load", "filter of the pod's init")
}

/// Orphans of the pod become children of process 1 and would stay as zombies.
fn reap_for_ever() -> ! {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No child now: sleep until one comes and ends.
            Err(_) => signal::wait_for(libc::SIGCHLD),
        }
    }
}
