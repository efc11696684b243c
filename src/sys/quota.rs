//! Project quotas (quotactl(2), `linux/fs.h`): how much of a file system a tree may take, and
//! takes, counted by the file system itself. Everything made below a directory that has a
//! project belongs to it.
//!
//! ext4 and XFS have them, where they are mounted with `prjquota`. Whoever writes with
//! `CAP_SYS_RESOURCE` is not held by them; overlayfs writes without.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::{check, tree::Usage};

/// `PRJQUOTA` of `linux/quota.h`.
const PROJECT: libc::c_uint = 2;
/// Commands of `linux/quota.h` and `linux/dqblk_xfs.h`.
const GET_QUOTA: libc::c_uint = 0x80_0007;
const SET_QUOTA: libc::c_uint = 0x80_0008;
const GET_STATE: libc::c_uint = 0x5808;
/// Bits of `qs_flags`: usage of projects is counted, and their limits hold.
const COUNTED: u16 = 1 << 4;
const ENFORCED: u16 = 1 << 5;
/// `QIF_BLIMITS`: the limits of space in the request are meant.
const SPACE_LIMITS: u32 = 1;
/// Limits of space are in units of this many bytes (`QIF_DQBLKSIZE`).
const UNIT: u64 = 1024;
/// `FS_XFLAG_PROJINHERIT`.
const INHERITED: u32 = 0x200;

/// What a file system does about projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Nothing.
    None,
    /// It counts.
    Counted,
    /// It counts, and holds limits.
    Enforced,
}

/// `if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Quota {
    space_hard: u64,
    space_soft: u64,
    space: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    space_time: u64,
    inodes_time: u64,
    valid: u32,
}

/// `fs_qfilestatv`.
#[repr(C)]
#[derive(Default)]
struct FileState {
    inode: u64,
    blocks: u64,
    extents: u32,
    padding: u32,
}

/// `fs_quota_statv`.
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    padding: u8,
    flags: u16,
    in_core: u32,
    files: [FileState; 3],
    times: [i32; 3],
    warnings: [u16; 4],
    more_padding: u32,
    even_more: [u64; 7],
}

/// `fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const GET_ATTRIBUTES: libc::Ioctl = (2_u64 << 30 | 28 << 16 | 0x58 << 8 | 31) as libc::Ioctl;
const SET_ATTRIBUTES: libc::Ioctl = (1_u64 << 30 | 28 << 16 | 0x58 << 8 | 32) as libc::Ioctl;

/// What the file system of an open file does.
pub fn support(file: BorrowedFd<'_>) -> Support {
    let mut state = State { version: 1, ..State::default() };
    // SAFETY: the kernel writes one `fs_quota_statv`, which `state` is.
    let done = unsafe { quotactl(file, GET_STATE, 0, (&raw mut state).cast()) };
    match done {
        Ok(()) if state.flags & ENFORCED != 0 => Support::Enforced,
        Ok(()) if state.flags & COUNTED != 0 => Support::Counted,
        _ => Support::None,
    }
}

/// Puts an open directory, and all that will be made below it, into a project.
///
/// # Errors
/// A file system without projects.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = Attributes::default();
    let descriptor = directory.as_raw_fd();
    // SAFETY: the kernel writes one `fsxattr`, which `attributes` is.
    check(unsafe { libc::ioctl(descriptor, GET_ATTRIBUTES, &raw mut attributes) }.into())?;
    attributes.project = project;
    attributes.flags |= INHERITED;
    // SAFETY: the kernel reads one `fsxattr`.
    check(unsafe { libc::ioctl(descriptor, SET_ATTRIBUTES, &raw const attributes) }.into())?;
    Ok(())
}

/// Limits the space of a project on the file system of an open file, in bytes; 0 is no limit.
///
/// # Errors
/// A file system that holds no limits.
pub fn limit(file: BorrowedFd<'_>, project: u32, bytes: u64) -> io::Result<()> {
    let units = bytes.div_ceil(UNIT);
    let mut quota =
        Quota { space_hard: units, space_soft: units, valid: SPACE_LIMITS, ..Quota::default() };
    // SAFETY: the kernel reads one `if_dqblk`, which `quota` is.
    unsafe { quotactl(file, SET_QUOTA, project, (&raw mut quota).cast()) }
}

/// What a project takes on the file system of an open file.
///
/// # Errors
/// A file system that does not count.
pub fn usage(file: BorrowedFd<'_>, project: u32) -> io::Result<Usage> {
    let mut quota = Quota::default();
    // SAFETY: the kernel writes one `if_dqblk`, which `quota` is.
    unsafe { quotactl(file, GET_QUOTA, project, (&raw mut quota).cast()) }?;
    Ok(Usage { bytes: quota.space, inodes: quota.inodes })
}

/// quotactl_fd(2), of Linux 5.14.
///
/// # Safety
/// `argument` must point to what the command wants.
unsafe fn quotactl(
    file: BorrowedFd<'_>,
    command: libc::c_uint,
    project: u32,
    argument: *mut libc::c_void,
) -> io::Result<()> {
    const _: () = assert!(mem::size_of::<Quota>() == 72 && mem::size_of::<Attributes>() == 28);
    let command = command << 8 | PROJECT;
    // SAFETY: as the caller promises.
    let result = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, project, argument)
    };
    check(result).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd};

    use super::{Support, limit, support, usage};

    #[test]
    fn a_file_system_without_quotas_says_so() {
        let memory = File::open("/dev/shm").unwrap();
        assert_eq!(support(memory.as_fd()), Support::None);
        assert!(limit(memory.as_fd(), 7, 1 << 20).is_err());
        assert!(usage(memory.as_fd(), 7).is_err());
    }
}
