//! How much of the machine a thread gets.

use std::io;

use super::check;

/// `ioprio_set(2)` with the idle class for the calling thread: its disk requests are served
/// when nobody else has any. What the disk's scheduler makes of it is its own affair.
///
/// # Errors
/// Those of the call.
pub fn only_when_idle() -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: the call takes numbers alone; zero is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE) })
        .map(drop)
}
