//! `mount_setattr(2)`, which rustix does not have.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::check;

/// Attributes of a mount: `MOUNT_ATTR_*` to set and to clear, and `MS_PRIVATE`, `MS_SLAVE`,
/// `MS_SHARED`, `MS_UNBINDABLE` or 0 for its propagation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttributes {
    /// Attributes that the mount gets.
    pub set: u64,
    /// Attributes that the mount loses.
    pub clear: u64,
    /// How later mounts travel; 0 leaves it as it is.
    pub propagation: u64,
}

impl MountAttributes {
    /// Whether applying these changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `mount_setattr(2)` with `MOUNT_ATTR_IDMAP`: owners of files on the detached mount are seen
/// through the user namespace, with `recursive` on all below as well.
///
/// # Errors
/// Those of the call; `EINVAL` where the filesystem cannot do it.
pub fn idmap(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    set(mount, &attr, recursive)
}

/// `mount_setattr(2)` on the mount that `fd` refers to, and with `recursive` on all below.
///
/// # Errors
/// Those of the call; `EINVAL` where `fd` is not the root of a mount.
pub fn mount_setattr(
    fd: BorrowedFd<'_>,
    attributes: MountAttributes,
    recursive: bool,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    set(fd, &attr, recursive)
}

fn set(fd: BorrowedFd<'_>, attr: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let empty = CString::default();
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` and `empty` outlive the call, and the size is that of `attr`.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            empty.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}
