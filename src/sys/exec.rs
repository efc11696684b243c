//! The last steps of a process before, and instead of, its program.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    ptr,
};

use super::check;

/// `execve(2)`. Returns only with an error.
pub fn execve(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and point to C strings that live until the
    // call returns or the memory of this process is replaced.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// `_exit(2)`: ends the process without running exit handlers, which belong to the parent.
pub fn exit(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// `close_range(2)`: marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// Those of the call.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed here, so no owner is cheated.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Closes all but the standard streams: what the parent of this process has forgotten to keep
/// to itself. To be called before this process has opened anything.
pub fn close_inherited() {
    // SAFETY: nothing is open yet that has an owner here.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Closes all but the standard streams and one more, in a process that goes on to its program.
pub fn close_all_but_streams_and(kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd() as libc::c_uint;
    // SAFETY: the caller is a child that goes on to `execve` or ends; its owners of descriptors
    // are never used or dropped, since it does not return from there.
    unsafe {
        if kept > 3 {
            libc::syscall(libc::SYS_close_range, 3, kept - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, kept + 1, libc::c_uint::MAX, 0);
    }
}

/// Closes every other descriptor of a process that will use none of them again.
pub fn close_all_but(kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd() as libc::c_uint;
    // SAFETY: the caller is a child that from here on only waits; its owners of descriptors
    // are never used or dropped, since it does not return from there.
    unsafe {
        if let Some(last) = kept.checked_sub(1) {
            libc::syscall(libc::SYS_close_range, 0, last, 0);
        }
        libc::syscall(libc::SYS_close_range, kept + 1, libc::c_uint::MAX, 0);
    }
}

/// Closes every descriptor from `first` on but these, in a process that will use none of the
/// others again.
pub fn close_from_but(first: RawFd, kept: &[RawFd]) {
    let mut kept: Vec<libc::c_uint> = kept.iter().map(|fd| *fd as libc::c_uint).collect();
    kept.sort_unstable();
    let mut next = first as libc::c_uint;
    for fd in kept.into_iter().chain([libc::c_uint::MAX]) {
        if next < fd {
            // SAFETY: as in `close_all_but`: the caller ends with `exit`, so that owners of the
            // others are never used or dropped.
            unsafe { libc::syscall(libc::SYS_close_range, next, fd - 1, 0) };
        }
        next = fd.saturating_add(1);
    }
}

/// `setrlimit(2)` by the number of the resource (`RLIMIT_*`).
///
/// # Errors
/// `EPERM` where the hard limit would be raised without `CAP_SYS_RESOURCE`.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call. The type of the number differs between C libraries.
    check(unsafe { libc::setrlimit(resource as _, &raw const limit) }.into()).map(drop)
}

/// `malloc_trim(3)`: gives free pages of the heap back to the kernel.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; the allocator guards its own state.
    unsafe {
        libc::malloc_trim(0);
    }
}
