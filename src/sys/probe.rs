//! Calls that only find out what the kernel can do.

use std::io;

use super::check;

/// The version of Landlock's interface (landlock(7)).
///
/// # Errors
/// `ENOSYS` and `EOPNOTSUPP` where there is none, or it is not among the modules that are on.
pub fn landlock_version() -> io::Result<u32> {
    /// `LANDLOCK_CREATE_RULESET_VERSION` of `linux/landlock.h`.
    const VERSION: libc::c_int = 1;
    // SAFETY: with this flag the call takes no memory.
    let version = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    })?;
    Ok(version as u32)
}

/// Whether the kernel can ask another process about system calls (seccomp_unotify(2)).
///
/// # Errors
/// `EINVAL` where it cannot.
pub fn seccomp_notification() -> io::Result<()> {
    let mut sizes = [0_u16; 3];
    // SAFETY: the kernel writes three sizes of two bytes, which is what there is room for.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_NOTIF_SIZES,
            0,
            (&raw mut sizes).cast::<libc::c_void>(),
        )
    })
    .map(drop)
}

/// Whether processes can be kept from sharing the threads of a processor's core
/// (`PR_SCHED_CORE`(2const)).
///
/// # Errors
/// `EINVAL` where the kernel cannot, `ENODEV` where cores have one thread each.
pub fn core_scheduling() -> io::Result<()> {
    /// `PR_SCHED_CORE`, `PR_SCHED_CORE_GET` and `PIDTYPE_PID` of the kernel.
    const SCHED_CORE: libc::c_int = 62;
    const GET: libc::c_long = 0;
    const OF_THREAD: libc::c_long = 0;
    let mut cookie = 0_u64;
    // SAFETY: the kernel writes one number of eight bytes, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_prctl, SCHED_CORE, GET, 0, OF_THREAD, &raw mut cookie) })
        .map(drop)
}

/// Whether somebody keeps the clock of this machine right (adjtimex(2)): the kernel forgets it
/// some time after the last who did has ended.
///
/// # Errors
/// What the kernel refuses.
pub fn clock_is_synchronized() -> io::Result<bool> {
    // SAFETY: all fields are numbers, for which zero is a value; no mode is set, so that the
    // call only reads.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `timex`, which outlives the call.
    let state = check(unsafe { libc::adjtimex(&raw mut clock) }.into())?;
    Ok(state != libc::c_long::from(libc::TIME_ERROR) && clock.status & libc::STA_UNSYNC == 0)
}
