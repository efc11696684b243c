//! `seccomp(2)`: installs a compiled filter.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use super::check;

/// `struct sock_filter`, one instruction of classic BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip where it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

/// Installs the filter for this thread and all that it executes. Needs `no_new_privs` or
/// `CAP_SYS_ADMIN`.
///
/// # Errors
/// Those of the call; `EINVAL` for a program that is empty, too long or malformed.
pub fn load(filter: &[Instruction], flags: u32) -> io::Result<()> {
    install(filter, flags & !NEW_LISTENER).map(drop)
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the load of the filter brings a listener.
pub const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, since Linux 5.19: signals do not interrupt a call that
/// a listener has been told of, so that it is told of once.
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Installs a filter as [`load`] does; answers with the listener that is told of the calls for
/// which the filter says so ([`notify`](super::notify)).
///
/// # Errors
/// Those of the call; `EBUSY` where the thread has a filter with a listener already.
pub fn load_and_listen(filter: &[Instruction], flags: u32) -> io::Result<OwnedFd> {
    // Threads are told apart, and there is one.
    let flags = flags & !(libc::SECCOMP_FILTER_FLAG_TSYNC as u32) | NEW_LISTENER;
    let fd = match install(filter, flags | WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(filter, flags)?,
        result => result?,
    };
    // SAFETY: with this flag the call makes a descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn install(filter: &[Instruction], flags: u32) -> io::Result<libc::c_long> {
    let length = u16::try_from(filter.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "seccomp filter too long"))?;
    let program = Program { length, filter: filter.as_ptr() };
    // SAFETY: `program` and the instructions it points to outlive the call; the kernel checks
    // the program itself.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags as libc::c_uint,
            &raw const program,
        )
    })
}

/// `BPF_LD | BPF_W | BPF_ABS`, of a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
pub const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`: the last argument has two words, the lower one first.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const LAST_ARGUMENT: u32 = 56;

/// `AUDIT_ARCH_*` of this machine (`linux/audit.h`).
pub(super) const NATIVE: u32 =
    if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };

pub(super) fn one(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

/// A filter that lets through these calls of this machine's own ABI, and refuses all others
/// with `EPERM`.
pub fn only(calls: &[libc::c_long]) -> Vec<Instruction> {
    let count = calls.len() as u8;
    let mut program = vec![
        one(LOAD, 0, 0, ARCHITECTURE),
        one(EQUAL, 0, count + 1, NATIVE),
        one(LOAD, 0, 0, NUMBER),
    ];
    for (position, &call) in calls.iter().enumerate() {
        program.push(one(EQUAL, count - position as u8, 0, call as u32));
    }
    program.push(one(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    program.push(one(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

/// The filter as bytes, eight for an instruction, in the byte order of this machine.
pub fn to_bytes(filter: &[Instruction]) -> Vec<u8> {
    filter
        .iter()
        .flat_map(|i| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&i.code.to_ne_bytes());
            bytes[2] = i.jump_true;
            bytes[3] = i.jump_false;
            bytes[4..].copy_from_slice(&i.operand.to_ne_bytes());
            bytes
        })
        .collect()
}

/// The opposite of [`to_bytes`]; what is left over at the end is dropped.
pub fn from_bytes(bytes: &[u8]) -> Vec<Instruction> {
    bytes
        .chunks_exact(8)
        .map(|b| Instruction {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jump_true: b[2],
            jump_false: b[3],
            operand: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Instruction, from_bytes, to_bytes};

    #[test]
    fn a_filter_survives_its_bytes() {
        let filter =
            [Instruction { code: 0x15, jump_true: 1, jump_false: 2, operand: 0xdead_beef }];
        assert_eq!(from_bytes(&to_bytes(&filter)), filter);
    }
}
