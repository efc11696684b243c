//! The init of a PID namespace that the containers of a pod share.
//!
//! It is a copy of the monitor that executes nothing: its program is the monitor's, which no
//! container can change, and its root is an empty read-only directory, so that nothing of the
//! host can be reached through `/proc/1`. It has no capability either: a container that may
//! trace the processes of its pod would make those its own. It ends with the monitor.

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change,
        move_mount, unmount,
    },
    process::{Pid, Signal, WaitOptions, fchdir, pivot_root, wait},
};

use crate::{
    runtime::{
        error::{During, Error},
        process,
    },
    sys::{
        clone::{Cloned, SingleThreaded, clone3},
        exec, signal,
    },
};

/// The running init.
#[derive(Debug)]
pub(super) struct Init {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// Starts the init of a new PID namespace. `mount_point` is any empty directory.
pub(super) fn start(proof: &SingleThreaded, mount_point: &Path) -> Result<Init, Error> {
    match clone3(proof, libc::CLONE_NEWPID | libc::CLONE_NEWNS, None)
        .during("clone", "init of the pod")?
    {
        Cloned::Parent { pid, pidfd } => Ok(Init { pid, pidfd }),
        Cloned::Child => {
            signal::reset();
            signal::block(libc::SIGCHLD);
            for ignored in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                signal::ignore(ignored);
            }
            if enter_empty_root(mount_point).is_err() || give_up_rights().is_err() {
                exec::exit(1)
            }
            exec::close_all();
            reap_for_ever()
        }
    }
}

fn enter_empty_root(mount_point: &Path) -> Result<(), Error> {
    let object = "empty root of the pod's init";
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .during("stop propagation of", "/")?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during("open", object)?;
    fsconfig_set_string(&context, "nr_inodes", "1").during("limit", object)?;
    fsconfig_create(&context).during("create", object)?;
    let tree = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
    .during("mount", object)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", rustix::fs::CWD, mount_point, flags).during("attach", object)?;
    fchdir(&tree).during("enter", object)?;
    pivot_root(".", ".").during("change to", object)?;
    unmount(".", UnmountFlags::DETACH).during("detach", "root of the host")
}

fn give_up_rights() -> Result<(), Error> {
    process::drop_all_capabilities()?;
    rustix::thread::set_no_new_privs(true).during("set", "no_new_privs of the pod's init")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during("tie to the monitor", "init of the pod")
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
