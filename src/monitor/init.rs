//! The init of a PID namespace that the containers of a pod share.
//!
//! It is a copy of the monitor that executes nothing: its program is the monitor's, which no
//! container can change, and its root is a read-only directory with nothing in it but the
//! namespace's own procfs, so that nothing of the host can be reached through `/proc/1`. It has no capability either: a container that may
//! trace the processes of its pod would make those its own. For the same reason it lies in a
//! cgroup below the pod's that has no devices and one process, and behind a filter that leaves
//! it what it needs to reap. It ends with the monitor.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxPids, LinuxResources};

use rustix::{
    fs::{Mode, mkdirat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change,
        move_mount, unmount,
    },
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, fchdir, pivot_root, wait},
};

use crate::{
    runtime::{
        cgroup::{Cgroup, Version},
        error::{During, Error},
        process,
    },
    sys::{
        clone::{Cloned, SingleThreaded, clone3},
        exec, inherited,
        mount::{MountAttributes, mount_setattr},
        seccomp, signal,
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
) -> Result<Init, Error> {
    let cgroup = cgroup.map(make_cgroup).transpose()?;
    let (done, on_its_way) = pipe_with(PipeFlags::CLOEXEC).during("create", "pipe")?;
    let target = cgroup.as_ref().and_then(Cgroup::clone_target);
    let cloned = clone3(proof, libc::CLONE_NEWPID | libc::CLONE_NEWNS, target)
        .during("clone", "init of the pod");
    match cloned {
        Err(error) => {
            // Nothing ever ran in it.
            let _ = cgroup.map(|cgroup| cgroup.remove());
            Err(error)
        }
        Ok(Cloned::Parent { pid, pidfd }) => {
            drop(on_its_way);
            // Its end, by whatever, ends this as well, and is told by its parent's signal.
            rustix::io::read(&done, &mut [0_u8]).during("wait for", "init of the pod")?;
            Ok(Init { pid, pidfd, cgroup })
        }
        Ok(Cloned::Child) => {
            if cgroup.as_ref().is_some_and(|cgroup| cgroup.join().is_err()) {
                exec::exit(1)
            }
            inherited::reset();
            signal::reset();
            signal::block(libc::SIGCHLD);
            for ignored in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                signal::ignore(ignored);
            }
            if enter_empty_root(mount_point).is_err() {
                exec::exit(1)
            }
            exec::close_all_but(on_its_way.as_fd());
            if give_up_rights().is_err() {
                exec::exit(1)
            }
            drop(on_its_way);
            reap_for_ever()
        }
    }
}

/// No devices, and no second process. A node whose cgroups do not count processes has the
/// filter, which refuses them as well.
fn make_cgroup(path: &Path) -> Result<Cgroup, Error> {
    let version = Version::detect().during("inspect", "cgroups")?;
    let mut none = LinuxDeviceCgroup::default();
    none.set_allow(false).set_typ(Some(LinuxDeviceType::A)).set_access(Some("rwm".to_owned()));
    let mut one = LinuxPids::default();
    one.set_limit(1);
    let mut limits = LinuxResources::default();
    limits.set_devices(Some(vec![none])).set_pids(Some(one));
    match Cgroup::create(version, path, Some(&limits)) {
        Err(Error::Controller { .. }) => {
            limits.set_pids(None);
            Cgroup::create(version, path, Some(&limits))
        }
        created => created,
    }
}

fn enter_empty_root(mount_point: &Path) -> Result<(), Error> {
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
    move_mount(&tree, "", rustix::fs::CWD, mount_point, flags).during("attach", object)?;
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
