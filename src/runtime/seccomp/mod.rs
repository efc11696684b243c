//! From the `linux.seccomp` of a spec to a program of the kernel.
//!
//! Entry point: `compile`. `abi` knows how system calls are numbered, `rules` decides
//! what becomes of each number, `program` writes the instructions. A filter runs at every
//! system call, and once for every number when it is installed, so that it finds the number
//! by binary search: some eight comparisons, however long the profile is.
//!
//! What a profile means:
//! - The first rule of a system call whose arguments fit decides; the conditions of a rule
//!   must all hold. Where a rule has several conditions on one argument, each of them makes a
//!   rule of its own, as in runc and crun.
//! - Names that this machine does not know are left out.
//! - A system call that is newer than all that the profile names fails with `ENOSYS`, unless
//!   the default action lets it through: programs then fall back to an older one.
//! - Calls of an ABI that the profile does not list kill the process. The machine's own ABI
//!   counts as listed.

mod abi;
mod program;
mod rules;
#[cfg(test)]
mod tests;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

use super::error::Error;
use crate::sys::seccomp::{Instruction, NEW_LISTENER, RETURN};
use abi::Machine;

/// The kernel's limit, `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

/// Compiles a filter for this machine.
///
/// # Errors
/// What the spec asks for and no program can do.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter, Error> {
    let program = compile_for(Machine::NATIVE, seccomp)?;
    let tells = |instruction: &Instruction| {
        (instruction.code, instruction.operand) == (RETURN, libc::SECCOMP_RET_USER_NOTIF)
    };
    let listener = if program.iter().any(tells) { NEW_LISTENER } else { 0 };
    Ok(Filter { program, flags: flags(seccomp) | listener })
}

/// The name of a system call by its number, and the architecture that it belongs to
/// (`AUDIT_ARCH_*`).
pub fn name_of(architecture: u32, number: u32) -> Option<&'static str> {
    let mut abis = Machine::NATIVE.abis().iter().filter(|abi| abi.audit() == architecture);
    abis.find_map(|abi| abi.name(number))
}

fn compile_for(machine: Machine, seccomp: &LinuxSeccomp) -> Result<Vec<Instruction>, Error> {
    let tables = rules::tables(machine, seccomp)?;
    let program = program::assemble(&tables);
    if program.len() > MAX_INSTRUCTIONS {
        let reason = format!(
            "the profile needs {} instructions and the kernel takes {MAX_INSTRUCTIONS}; \
             use fewer rules with arguments",
            program.len()
        );
        return Err(Error::spec("linux.seccomp.syscalls", reason));
    }
    Ok(program)
}

/// A profile without flags gets that which costs nothing: the processor's mitigation of
/// speculative stores stays off, as it does in the other runtimes.
fn flags(seccomp: &LinuxSeccomp) -> u32 {
    let Some(flags) = seccomp.flags() else {
        return libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
    };
    flags.iter().fold(0, |all, flag| {
        all | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG as u32,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => {
                libc::SECCOMP_FILTER_FLAG_TSYNC as u32
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => {
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32
            }
            // Every listener gets it where the kernel knows it.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        }
    })
}
