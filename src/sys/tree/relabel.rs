//! Labels of SELinux on files: `security.selinux`.

use std::{
    ffi::{CStr, OsStr},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
};

use rustix::{
    fs::{Mode, OFlags, XattrFlags, getxattr, lsetxattr, openat, setxattr},
    io::Errno,
};

use super::usage::walk;

const ATTRIBUTE: &str = "security.selinux";

/// The longest label, in bytes.
const MAX_LABEL: usize = 4096;

/// The label of an open file, which may be open to be looked at alone.
///
/// # Errors
/// Those of `getxattr(2)`.
pub fn label(file: BorrowedFd<'_>) -> io::Result<String> {
    let mut buffer = vec![0; MAX_LABEL];
    let length = getxattr(place(file), ATTRIBUTE, &mut buffer[..])?;
    buffer.truncate(length);
    Ok(String::from_utf8_lossy(&buffer).trim_end_matches('\0').to_owned())
}

/// Gives an open file a label.
///
/// # Errors
/// Those of `setxattr(2)`.
pub fn set_label(file: BorrowedFd<'_>, label: &str) -> io::Result<()> {
    Ok(setxattr(place(file), ATTRIBUTE, label.as_bytes(), XattrFlags::empty())?)
}

/// The name by which the kernel leads to what is open, and nowhere else.
fn place(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Gives all that is in a directory a label, while somebody may be changing it, but not the
/// directory itself, which may be open to be looked at alone; in any other file there is nothing.
/// What goes on the way needs none, and what is mounted inside keeps its own. `goes_on` is asked
/// for each name.
///
/// # Errors
/// Those of `lsetxattr(2)`, and of reading the directory.
pub fn relabel(
    directory: BorrowedFd<'_>,
    label: &str,
    mut goes_on: impl FnMut() -> bool,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(directory, ".", flags, Mode::empty()) {
        Err(Errno::NOTDIR) => return Ok(()),
        directory => directory?,
    };
    let mut failure = None;
    walk(directory.as_fd(), |parent, name, _| {
        failure = set_in(parent, name, label).err();
        failure.is_none() && goes_on()
    })?;
    failure.map_or(Ok(()), Err)
}

/// There is no call that takes a directory and a name before Linux 6.13.
fn set_in(parent: BorrowedFd<'_>, name: &CStr, label: &str) -> io::Result<()> {
    let path = place(parent).join(OsStr::from_bytes(name.to_bytes()));
    match lsetxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}
