//! The few calls between a filter of system calls and the program that it is for.
//!
//! A filter is loaded while the process still has the rights for that; what makes the process
//! the program's comes after it, and the profile of a program need not know of any of it. These
//! calls carry a secret in an argument that they do not have, and the filter lets them through
//! for that: no program knows it, since whoever could read a filter (`PTRACE_SECCOMP_GET_FILTER`)
//! could as well do without.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use rustix::{
    rand::{GetRandomFlags, getrandom},
    thread::CapabilitySets,
};

use super::{
    check,
    seccomp::{ARCHITECTURE, EQUAL, Instruction, LAST_ARGUMENT, LOAD, NATIVE, NUMBER, RETURN, one},
};

/// The calls; none of them has six arguments.
const CALLS: [libc::c_long; 5] =
    [libc::SYS_capset, libc::SYS_clone, libc::SYS_setsid, libc::SYS_ioctl, libc::SYS_sendmsg];

/// The secret of one process and its filter.
pub struct Exception(u64);

impl Exception {
    /// A new one.
    ///
    /// # Errors
    /// Those of `getrandom(2)`.
    pub fn new() -> io::Result<Self> {
        let mut bytes = [0; 8];
        match getrandom(&mut bytes, GetRandomFlags::empty())? {
            8 => Ok(Self(u64::from_ne_bytes(bytes))),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(super) fn secret(&self) -> libc::c_ulong {
        self.0 as libc::c_ulong
    }

    /// The filter, after one that lets these calls through.
    pub fn before(&self, filter: &[Instruction]) -> Vec<Instruction> {
        let calls = CALLS.len() as u8;
        // From a number on to the first instruction of the filter: the other numbers, and what
        // compares the secret.
        const COMPARISON: u8 = 5;
        let mut program = vec![
            one(LOAD, 0, 0, ARCHITECTURE),
            one(EQUAL, 0, 1 + calls + COMPARISON, NATIVE),
            one(LOAD, 0, 0, NUMBER),
        ];
        for (position, &call) in CALLS.iter().enumerate() {
            let left = calls - 1 - position as u8;
            let otherwise = if left == 0 { COMPARISON } else { 0 };
            program.push(one(EQUAL, left, otherwise, call as u32));
        }
        program.extend([
            one(LOAD, 0, 0, LAST_ARGUMENT),
            one(EQUAL, 0, 3, self.0 as u32),
            one(LOAD, 0, 0, LAST_ARGUMENT + 4),
            one(EQUAL, 0, 1, (self.0 >> 32) as u32),
            one(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        ]);
        program.extend_from_slice(filter);
        program
    }

    /// `capset(2)` of this thread.
    ///
    /// # Errors
    /// Those of the call.
    pub fn set_capabilities(&self, sets: CapabilitySets) -> io::Result<()> {
        /// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
        const VERSION: u32 = 0x2008_0522;
        let header = [VERSION, 0];
        let (effective, permitted, inheritable) =
            (sets.effective.bits(), sets.permitted.bits(), sets.inheritable.bits());
        let halves = |of: fn(u64) -> u32| [of(effective), of(permitted), of(inheritable)];
        let data = [halves(|bits| bits as u32), halves(|bits| (bits >> 32) as u32)];
        // SAFETY: header and data are what this version of the call reads, two words and two
        // times three, and outlive it.
        check(unsafe {
            let (header, data) = (header.as_ptr(), data.as_ptr());
            libc::syscall(libc::SYS_capset, header, data, 0, 0, 0, self.secret())
        })
        .map(drop)
    }

    /// Sends a byte and a descriptor over a socket (`sendmsg(2)`).
    ///
    /// # Errors
    /// Those of the call.
    pub fn send(&self, socket: BorrowedFd<'_>, byte: u8, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut body = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
        // Aligned as a header is, and long enough for one with a descriptor.
        let mut control = [0_u64; 8];
        // SAFETY: all-zero is a valid msghdr, and means "nothing".
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut body, 1);
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: the macros compute with numbers, and with pointers into `control`, which has
        // room for what is written; everything outlives the call.
        check(unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
            let (number, flags) = (libc::SYS_sendmsg, libc::MSG_NOSIGNAL);
            let message = &raw const message;
            libc::syscall(number, socket.as_raw_fd(), message, flags, 0, 0, self.secret())
        })
        .map(drop)
    }

    /// `setsid(2)`.
    ///
    /// # Errors
    /// `EPERM` in the leader of a process group.
    pub fn create_session(&self) -> io::Result<()> {
        // SAFETY: passes no memory.
        check(unsafe { libc::syscall(libc::SYS_setsid, 0, 0, 0, 0, 0, self.secret()) }).map(drop)
    }

    /// Makes a terminal the controlling one (`ioctl_tty(2)`).
    ///
    /// # Errors
    /// Those of the call.
    pub fn take_control(&self, terminal: BorrowedFd<'_>) -> io::Result<()> {
        let (fd, request) = (terminal.as_raw_fd(), libc::TIOCSCTTY);
        // SAFETY: the request takes a number, 0, and no memory.
        check(unsafe { libc::syscall(libc::SYS_ioctl, fd, request, 0, 0, 0, self.secret()) })
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{CALLS, Exception};
    use crate::sys::seccomp::{
        ARCHITECTURE, EQUAL, Instruction, LAST_ARGUMENT, LOAD, NATIVE, NUMBER, RETURN,
    };

    /// What the program answers: its operand for the return that it comes to.
    fn run(program: &[Instruction], architecture: u32, number: u32, last: u64) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            match code {
                LOAD => {
                    word = match operand {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        LAST_ARGUMENT => last as u32,
                        _ => (last >> 32) as u32,
                    }
                }
                EQUAL => at += usize::from(if word == operand { jump_true } else { jump_false }),
                _ => return operand,
            }
        }
    }

    #[test]
    fn only_those_who_know_the_secret_are_let_through() {
        let exception = Exception(0x1234_5678_9abc_def0);
        let refuse = Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: 7 };
        let program = exception.before(&[refuse]);
        for call in CALLS {
            let run = |architecture, secret| run(&program, architecture, call as u32, secret);
            assert_eq!(run(NATIVE, exception.0), libc::SECCOMP_RET_ALLOW, "{call}");
            for wrong in [0, exception.0 ^ 1, exception.0 ^ (1 << 63)] {
                assert_eq!(run(NATIVE, wrong), 7, "{call} {wrong:x}");
            }
            assert_eq!(run(NATIVE ^ 1, exception.0), 7, "another architecture");
        }
        assert_eq!(run(&program, NATIVE, libc::SYS_read as u32, exception.0), 7, "another call");
    }
}
