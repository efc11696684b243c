//! `clone3(2)`: new processes, in new namespaces and directly in their cgroup.

use std::{
    fs, io,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::process::Pid;

use super::{check, exception::Exception};

/// Of `linux/sched.h`; beyond what the C type of the other flags holds.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Proof that this process has one thread.
///
/// A child of `clone3` has a copy of the memory of its parent and only the calling thread;
/// where another thread held a lock (of the allocator, say), the child would wait for ever.
/// The proof is neither `Send` nor `Clone`.
#[derive(Debug)]
pub struct SingleThreaded(PhantomData<*const ()>);

impl SingleThreaded {
    /// Counts the threads in `/proc/self/task`. The holder must not start another.
    ///
    /// # Errors
    /// When the process has more than one thread, or `/proc` cannot be read.
    pub fn prove() -> io::Result<Self> {
        match fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(PhantomData)),
            threads => Err(io::Error::other(format!("the process has {threads} threads, not one"))),
        }
    }
}

/// Who returns from [`clone3`].
#[derive(Debug)]
pub enum Cloned {
    /// The new process. It must end with `execve` or [`super::exec::exit`].
    Child,
    /// The caller.
    Parent {
        /// The child's process id in the caller's PID namespace.
        pid: Pid,
        /// Refers to the child whatever becomes of its id.
        pidfd: OwnedFd,
    },
}

/// `clone3(2)` with the flags `CLONE_NEW*` and, on cgroup v2, a cgroup to start in.
///
/// # Errors
/// Those of the call; `EBUSY` where the cgroup may not hold processes.
pub fn clone3(
    _proof: &SingleThreaded,
    namespaces: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args, and means "nothing asked for".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64 | namespaces as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` outlive the call. No CLONE_VM: the child has its own copy of
    // the memory and stack. The proof says that no other thread can hold a lock.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>())
    })?;
    match Pid::from_raw(pid as i32) {
        None => Ok(Cloned::Child),
        // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
        Some(pid) => Ok(Cloned::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// `clone(2)` of a process that has the same parent as this one (`CLONE_PARENT`), in new
/// namespaces (`CLONE_NEW*`). None for the new process, which must end with `execve` or
/// [`super::exec::exit`].
///
/// # Errors
/// Those of the call.
pub fn clone_beside(
    _proof: &SingleThreaded,
    namespaces: libc::c_int,
    exception: &Exception,
) -> io::Result<Option<Pid>> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD | namespaces;
    // SAFETY: no CLONE_VM: the child has its own copy of the memory and stack, and without a
    // flag that asks for it the kernel writes to none of the addresses. The proof says that no
    // other thread can hold a lock.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0, exception.secret())
    })?;
    Ok(Pid::from_raw(pid as i32))
}

/// `unshare(2)` of namespaces (`CLONE_NEW*`), for this thread and its later children.
///
/// # Errors
/// Those of the call.
pub fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: only namespace flags are passed, never CLONE_FILES or CLONE_FS alone, so no
    // assumption of other code about shared descriptors is broken.
    check(unsafe { libc::unshare(namespaces) }.into()).map(drop)
}

/// `setns(2)`: joins the namespaces `which` of the process or namespace that `fd` refers to.
///
/// # Errors
/// Those of the call.
pub fn setns(fd: BorrowedFd<'_>, which: libc::c_int) -> io::Result<()> {
    // SAFETY: `fd` is open for the length of the call; no memory is passed.
    check(unsafe { libc::setns(fd.as_raw_fd(), which) }.into()).map(drop)
}
