//! `seccomp_unotify(2)`: another process is told of calls that a filter refuses, and answers for
//! the kernel.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    check,
    seccomp::{EQUAL, Instruction, LOAD, RETURN},
};

/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP` with `BPF_JA`, `BPF_JGT` and `BPF_JGE`.
const JUMP: u16 = 0x05;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;

/// `SECCOMP_IOCTL_NOTIF_RECV` and `SECCOMP_IOCTL_NOTIF_SEND` of `linux/seccomp.h`.
const RECEIVE: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;

/// `struct seccomp_data`: a system call as a filter sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Call {
    /// Its number.
    pub number: i32,
    /// `AUDIT_ARCH_*` of who calls.
    pub architecture: u32,
    /// Where it was called.
    pub instruction: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// `struct seccomp_notif`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    /// What was called.
    pub call: Call,
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// What a listener has to say.
#[derive(Debug)]
pub enum Heard {
    /// Somebody waits for an answer.
    Call(Notification),
    /// Nobody waits any more.
    Nothing,
    /// All who have the filter have ended.
    End,
}

/// Looks at a listener, and does not wait.
///
/// # Errors
/// Those of the calls; `EINVAL` for what is no listener.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Heard> {
    // The call itself waits, on older kernels also where nobody is left.
    let mut polled = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default()))?;
    let events = polled[0].revents();
    if !events.contains(PollFlags::IN) {
        return Ok(if events.is_empty() { Heard::Nothing } else { Heard::End });
    }
    let mut notification = Notification::default();
    // SAFETY: the structure is the one that this call fills, all zero as the kernel wants it,
    // and outlives the call.
    let received = check(unsafe {
        let fd = listener.as_raw_fd();
        libc::syscall(libc::SYS_ioctl, fd, RECEIVE, &raw mut notification)
    });
    match received {
        Ok(_) => Ok(Heard::Call(notification)),
        // It was killed, or interrupted, meanwhile.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
            Ok(Heard::Nothing)
        }
        Err(error) => Err(error),
    }
}

/// Has the call fail with an error number. One that nobody waits for is as good.
pub fn refuse(listener: BorrowedFd<'_>, notification: &Notification, errno: i32) {
    let answer = Answer { id: notification.id, value: 0, error: -errno, flags: 0 };
    // SAFETY: the structure is the one that this call reads, and outlives it.
    unsafe { libc::syscall(libc::SYS_ioctl, listener.as_raw_fd(), SEND, &raw const answer) };
}

/// A filter that tells a listener of what the given one refuses. What fails with `ENOSYS` does
/// so still: a program that asks for what a kernel may lack has another way.
pub fn telling(filter: &[Instruction]) -> Vec<Instruction> {
    let mut program = filter.to_vec();
    for instruction in program.iter_mut().filter(|instruction| instruction.code == RETURN) {
        if errno_of(instruction.operand).is_some_and(|errno| errno != libc::ENOSYS) {
            instruction.operand = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
    program
}

/// The error number that a verdict of a filter means; none for another verdict.
pub fn errno_of(verdict: u32) -> Option<i32> {
    let is_errno = verdict & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
    is_errno.then_some((verdict & libc::SECCOMP_RET_DATA) as i32)
}

/// What a filter says of a call. None for a program that the kernel would not take, or that has
/// instructions which filters of Criquet's have not.
pub fn verdict(filter: &[Instruction], call: &Call) -> Option<u32> {
    let (mut at, mut word) = (0_usize, 0_u32);
    loop {
        let Instruction { code, jump_true, jump_false, operand } = *filter.get(at)?;
        at += 1;
        let jump = |is_so: bool| usize::from(if is_so { jump_true } else { jump_false });
        match code {
            LOAD => word = load(call, operand)?,
            AND => word &= operand,
            JUMP => at = at.checked_add(usize::try_from(operand).ok()?)?,
            EQUAL => at += jump(word == operand),
            GREATER => at += jump(word > operand),
            AT_LEAST => at += jump(word >= operand),
            RETURN => return Some(operand),
            _ => return None,
        }
    }
}

/// A word of `struct seccomp_data`.
fn load(call: &Call, offset: u32) -> Option<u32> {
    let half = |value: u64, second: bool| {
        let is_upper = second == cfg!(target_endian = "little");
        if is_upper { (value >> 32) as u32 } else { value as u32 }
    };
    Some(match offset {
        0 => call.number as u32,
        4 => call.architecture,
        8 | 12 => half(call.instruction, offset == 12),
        16..64 if offset.is_multiple_of(4) => {
            half(call.arguments[(offset as usize - 16) / 8], offset % 8 == 4)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{AND, AT_LEAST, Call, GREATER, JUMP, errno_of, telling, verdict};
    use crate::sys::seccomp::{EQUAL, Instruction, LOAD, RETURN, one};

    const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | 13;

    fn program() -> Vec<Instruction> {
        vec![
            one(LOAD, 0, 0, 0),
            one(EQUAL, 0, 1, 7),
            one(RETURN, 0, 0, REFUSED),
            one(AT_LEAST, 0, 1, 100),
            one(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
            // The upper half of the last argument.
            one(LOAD, 0, 0, 60),
            one(AND, 0, 0, 0xff),
            one(GREATER, 0, 1, 5),
            one(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
            one(JUMP, 0, 0, 1),
            one(RETURN, 0, 0, 0),
            one(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        ]
    }

    fn call(number: i32, last: u64) -> Call {
        Call { number, arguments: [0, 0, 0, 0, 0, last], ..Call::default() }
    }

    #[test]
    fn a_program_says_what_the_kernel_would() {
        let program = program();
        for (call, expected) in [
            (call(7, 0), REFUSED),
            (call(100, 0), libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
            (call(8, 6 << 32), libc::SECCOMP_RET_KILL_PROCESS),
            (call(8, 0x105 << 32 | 9), libc::SECCOMP_RET_ALLOW),
        ] {
            assert_eq!(verdict(&program, &call), Some(expected), "{call:?}");
        }
        assert_eq!(verdict(&program[..1], &call(1, 0)), None, "it has no end");
        assert_eq!(verdict(&[one(LOAD, 0, 0, 64)], &call(1, 0)), None);
    }

    #[test]
    fn what_is_refused_is_told_and_nothing_else() {
        let told = telling(&program());
        assert_eq!(verdict(&told, &call(7, 0)), Some(libc::SECCOMP_RET_USER_NOTIF));
        let others = [call(100, 0), call(8, 6 << 32), call(8, 0)];
        for call in others {
            assert_eq!(verdict(&told, &call), verdict(&program(), &call));
        }
        assert_eq!(errno_of(REFUSED), Some(13));
        assert_eq!(errno_of(libc::SECCOMP_RET_ALLOW), None);
    }
}
