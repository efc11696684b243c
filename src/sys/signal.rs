//! Signals: masks, dispositions and `signalfd(2)`.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use super::check;

/// Blocks the signals and returns a non-blocking descriptor that is readable when one waits.
///
/// # Errors
/// Those of `sigprocmask(2)` and `signalfd(2)`.
pub fn signalfd(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: `set` outlives both calls. The process has one thread, so its mask is the thread's.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) }.into())?;
    // SAFETY: as above; -1 asks for a new descriptor.
    let fd = check(
        unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) }
            .into(),
    )?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Takes one waiting signal's number off a `signalfd`.
///
/// # Errors
/// `WouldBlock` where none waits.
pub fn next_signal(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer has the size that is passed.
    check(unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size) } as libc::c_long)?;
    // SAFETY: zeroed and then filled; every bit pattern is a valid signalfd_siginfo.
    Ok(unsafe { info.assume_init() }.ssi_signo)
}

/// Gives every signal its default disposition and unblocks all, as a program expects to find
/// them at its start.
pub fn reset() {
    let none = set_of(&[]);
    // `struct sigaction` of the kernel: no handler (`SIG_DFL`), no flags, no restorer, no mask.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours. Those that cannot be changed are refused. The
        // kernel is called itself, since C libraries keep two signals, 32 and 33, to themselves.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    // SAFETY: `none` outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Ignores a signal.
pub fn ignore(signal: libc::c_int) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// `pidfd_send_signal(2)` by number, real-time signals included.
///
/// # Errors
/// Those of the call; `ESRCH` where the process has ended.
pub fn send(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open; no memory is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// Sleeps until the signal comes. It must be blocked, so that none is lost in between.
pub fn wait_for(signal: libc::c_int) {
    let set = set_of(&[signal]);
    let mut received = 0;
    // SAFETY: both outlive the call.
    unsafe { libc::sigwait(&raw const set, &raw mut received) };
}

/// Blocks a signal.
pub fn block(signal: libc::c_int) {
    let set = set_of(&[signal]);
    // SAFETY: `set` outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, sigaddset changes an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}
