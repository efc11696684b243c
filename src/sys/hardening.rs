//! What a process gives up for itself alone, and none of those that it starts.

use std::io;

use super::check;

/// `PR_SET_MDWE` of `linux/prctl.h`, since Linux 6.3.
const SET_MDWE: libc::c_int = 65;
/// `PR_MDWE_REFUSE_EXEC_GAIN`.
const REFUSE_EXEC_GAIN: libc::c_ulong = 1;
/// `PR_MDWE_NO_INHERIT`, since Linux 6.6.
const NO_INHERIT: libc::c_ulong = 2;

/// Refuses this process memory that can be executed and was writable (`PR_SET_MDWE`(2const)),
/// for good. Those that it starts, and what they execute, are free of it: programs that compile
/// themselves need such memory.
///
/// # Errors
/// `EINVAL` where the kernel cannot, or cannot keep it from children.
pub fn deny_write_execute() -> io::Result<()> {
    let flags = REFUSE_EXEC_GAIN | NO_INHERIT;
    // SAFETY: the call takes numbers alone, and changes only what later calls may do.
    check(unsafe { libc::syscall(libc::SYS_prctl, SET_MDWE, flags, 0, 0, 0) }).map(drop)
}

/// `struct landlock_ruleset_attr` of `linux/landlock.h`.
#[cfg(feature = "daemon")]
#[repr(C)]
#[derive(Default)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// Takes from this thread, and all that it starts, what Landlock (landlock(7)) can take: every
/// file, TCP, and what is beyond it of signals and abstract sockets. Needs `no_new_privs`.
///
/// # Errors
/// `ENOSYS` and `EOPNOTSUPP` where the kernel has no Landlock.
#[cfg(feature = "daemon")]
pub fn deny_files() -> io::Result<()> {
    use std::os::fd::FromRawFd;

    let version = super::probe::landlock_version()?;
    let files = match version {
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    let ruleset = Ruleset {
        files: (1 << files) - 1,
        network: if version >= 4 { 0b11 } else { 0 },
        scoped: if version >= 6 { 0b11 } else { 0 },
    };
    // SAFETY: the structure has the size that is passed, and outlives the call; what older
    // kernels do not know of it is zero.
    let fd = check(unsafe {
        let size = size_of::<Ruleset>();
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0)
    })?;
    // SAFETY: the call has made it, and nobody else has it.
    let fd = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: takes a descriptor and a number.
    check(unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&fd);
        libc::syscall(libc::SYS_landlock_restrict_self, fd, 0)
    })
    .map(drop)
}
