//! Calls that only find out what the kernel can do.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::check;

/// `mount_setattr(2)` with `MOUNT_ATTR_IDMAP`: owners of files on the detached mount are
/// seen through the user namespace.
///
/// # Errors
/// Those of the call; `EINVAL` where the filesystem cannot do it.
pub fn idmap_mount(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    let empty = CString::default();
    // SAFETY: `attr` and `empty` outlive the call, the size is that of `attr`, and both
    // descriptors are open.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}
