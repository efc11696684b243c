//! Owners, modes, times and attributes, and overlay's marks.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags},
    io::Errno,
};

use crate::image::tar::Entry;

const OPAQUE: &str = "trusted.overlay.opaque";

/// Overlay's whiteout: a character device of number 0:0.
pub(in super::super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(in super::super) fn set_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

/// Whether a directory hides those of the same path in the layers below.
pub(in super::super) fn is_opaque(directory: impl AsFd) -> bool {
    let mut value = [0u8; 2];
    matches!(rustix::fs::fgetxattr(directory, OPAQUE, &mut value), Ok(1) if value[0] == b'y')
}

pub(super) fn make_whiteout(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Owner, then mode, then attributes: a change of owner takes set-id bits and file
/// capabilities away.
pub(super) fn apply(fd: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
    let (uid, gid) = owner(entry);
    rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in wanted_attributes(entry) {
        tolerate(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// The same for what cannot be opened: links, devices, pipes. The parent is the layer's own
/// directory, and the name was just made in it.
pub(super) fn apply_at(
    parent: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    is_link: bool,
) -> Result<(), Errno> {
    let (uid, gid) = owner(entry);
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_link {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    for (attribute, value) in wanted_attributes(entry) {
        let path = in_proc(parent, name);
        tolerate(rustix::fs::lsetxattr(path, attribute, value, XattrFlags::empty()))?;
    }
    rustix::fs::utimensat(parent, name, &timestamps(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn set_time(fd: &OwnedFd, modified: (i64, u32)) -> Result<(), Errno> {
    rustix::fs::futimens(fd, &timestamps(modified))
}

/// Removes a directory of the layer and all beneath it, following nothing.
pub(super) fn remove_tree(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    crate::sys::tree::remove(parent.as_fd(), Path::new(std::ffi::OsStr::from_bytes(name)))
}

/// Removes anything.
pub(in super::super) fn remove(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => remove_tree(parent, name),
        result => Ok(result?),
    }
}

fn in_proc(parent: &OwnedFd, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat()
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}

/// File capabilities, access lists and users' attributes. Overlay's own would let an image
/// forge what the file system shows, and security labels are the host's to give.
fn wanted_attributes(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let wanted = |name: &[u8]| {
        name == b"security.capability"
            || name.starts_with(b"system.posix_acl_")
            || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
    };
    let attributes =
        entry.attributes.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    attributes.filter(move |(name, _)| wanted(name) && !name.contains(&0))
}

/// Attributes that the file system or the kind of file does not have are left out.
fn tolerate(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        other => other,
    }
}
