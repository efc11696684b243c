//! procfs of a PID namespace that this process is not in.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::fstatfs,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsmount,
        fsopen,
    },
};

use super::{
    detached,
    error::{During, Error},
    namespaces::{Member, ended},
};
use crate::sys::clone::setns;

/// Of `linux/magic.h`.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Whether this is a part of a procfs.
pub(super) fn is_proc(fd: BorrowedFd<'_>) -> Result<bool, Error> {
    let stat = fstatfs(fd).during("inspect", "file system")?;
    Ok(stat.f_type as u64 == PROC_SUPER_MAGIC)
}

/// The PID namespace of a process.
pub(super) fn pid_namespace(member: Member<'_>) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{}/ns/pid", member.pid.as_raw_nonzero());
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ended()),
        file => file.map(OwnedFd::from).during("open", &path),
    }
}

/// A detached mount of the procfs of a process's PID namespace. Linux can be told which one
/// since 6.18 (`pidns` of `Documentation/filesystems/proc.rst`); before, that of the process
/// itself is cloned, without what is mounted on it.
pub(super) fn of(member: Member<'_>, data: &[(String, Option<String>)]) -> Result<OwnedFd, Error> {
    let kind = "proc";
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during("open filesystem", kind)?;
    let namespace = pid_namespace(member)?;
    if fsconfig_set_fd(context.as_fd(), "pidns", namespace.as_fd()).is_err() {
        return of_its_own(member);
    }
    detached::set_options(context.as_fd(), kind, data)?;
    fsconfig_create(context.as_fd()).during("create filesystem", kind)?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .during("mount", kind)
}

fn of_its_own(member: Member<'_>) -> Result<OwnedFd, Error> {
    let path = "/proc/self/ns/mnt";
    let own = File::open(path).during("open", path)?;
    setns(member.pidfd, libc::CLONE_NEWNS).during("join", "mount namespace of a process")?;
    let tree = detached::clone_of(Path::new("/proc"), false);
    setns(own.as_fd(), libc::CLONE_NEWNS).during("return to", "own mount namespace")?;
    let tree = tree?;
    if !is_proc(tree.as_fd())? {
        let reason = "the container that is shared with has no procfs at /proc";
        return Err(Error::spec("mounts", reason));
    }
    Ok(tree)
}
