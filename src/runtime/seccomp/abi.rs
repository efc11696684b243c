//! How system calls are numbered on each ABI.

use std::{ops::Range, str::FromStr};

use oci_spec::runtime::Arch;
use syscalls::{aarch64, arm, x86, x86_64};

/// `__X32_SYSCALL_BIT`: set in the numbers of x32, which shares its audit architecture with
/// x86-64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// `__ARM_NR_BASE`.
const ARM_PRIVATE: u32 = 0x000f_0000;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("add the system call tables of this processor");

/// A processor that filters are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// Runs x86-64, i386 and x32 programs.
    X86_64,
    /// Runs AArch64 and 32-bit ARM programs.
    Aarch64,
}

impl Machine {
    /// The one that this program runs on.
    pub(super) const NATIVE: Self =
        if cfg!(target_arch = "aarch64") { Machine::Aarch64 } else { Machine::X86_64 };

    /// Its ABIs, the native one first.
    pub(super) fn abis(self) -> &'static [Abi] {
        match self {
            Machine::X86_64 => &[Abi::X86_64, Abi::X32, Abi::I386],
            Machine::Aarch64 => &[Abi::Aarch64, Abi::Arm],
        }
    }
}

/// A way to number system calls and pass arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    /// `SCMP_ARCH_X86_64`.
    X86_64,
    /// `SCMP_ARCH_X32`.
    X32,
    /// `SCMP_ARCH_X86`.
    I386,
    /// `SCMP_ARCH_AARCH64`.
    Aarch64,
    /// `SCMP_ARCH_ARM`.
    Arm,
}

impl Abi {
    /// As a profile names it.
    pub(super) fn arch(self) -> Arch {
        match self {
            Abi::X86_64 => Arch::ScmpArchX86_64,
            Abi::X32 => Arch::ScmpArchX32,
            Abi::I386 => Arch::ScmpArchX86,
            Abi::Aarch64 => Arch::ScmpArchAarch64,
            Abi::Arm => Arch::ScmpArchArm,
        }
    }

    /// `AUDIT_ARCH_*`: what the kernel shows a filter.
    pub(super) fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 32 bits. Those of x32 are passed in 64-bit registers.
    pub(super) fn has_short_arguments(self) -> bool {
        matches!(self, Abi::I386 | Abi::Arm)
    }

    /// The number of a system call, as the kernel shows it to a filter.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let listed = match self {
            Abi::X86_64 => x86_64::Sysno::from_str(name).ok().map(|call| call.id()),
            Abi::X32 => return x32_number(name),
            Abi::I386 => x86::Sysno::from_str(name).ok().map(|call| call.id()),
            Abi::Aarch64 => aarch64::Sysno::from_str(name).ok().map(|call| call.id()),
            Abi::Arm => arm::Sysno::from_str(name).ok().map(|call| call.id()),
        };
        listed.and_then(|number| u32::try_from(number).ok()).or_else(|| self.unlisted(name))
    }

    /// The name of a system call by its number.
    pub(super) fn name(self, number: u32) -> Option<&'static str> {
        let at = number as usize;
        match self {
            Abi::X86_64 => x86_64::Sysno::new(at).map(|call| call.name()),
            Abi::X32 => number
                .checked_sub(X32_BIT)
                .and_then(|number| x86_64::Sysno::new(number as usize))
                .map(|call| call.name()),
            Abi::I386 => x86::Sysno::new(at).map(|call| call.name()),
            Abi::Aarch64 => aarch64::Sysno::new(at).map(|call| call.name()),
            Abi::Arm => arm::Sysno::new(at).map(|call| call.name()),
        }
    }

    /// The first of its numbers.
    pub(super) fn first(self) -> u32 {
        if self == Abi::X32 { X32_BIT } else { 0 }
    }

    /// Numbers that the ABI gives out of turn, so that they do not say how new a call is.
    pub(super) fn out_of_turn(self) -> Range<u32> {
        match self {
            Abi::X32 => X32_BIT | 512..X32_BIT | 548,
            Abi::Arm => ARM_PRIVATE..ARM_PRIVATE + 7,
            _ => 0..0,
        }
    }

    /// What the tables of the crate lack: other names, ARM's private calls, the newest calls.
    fn unlisted(self, name: &str) -> Option<u32> {
        let number = match (self, name) {
            (Abi::Aarch64, "newfstatat") => 79,
            (Abi::Arm, "sync_file_range2") => 341,
            (Abi::Arm, "breakpoint") => ARM_PRIVATE + 1,
            (Abi::Arm, "cacheflush") => ARM_PRIVATE + 2,
            (Abi::Arm, "usr26") => ARM_PRIVATE + 3,
            (Abi::Arm, "usr32") => ARM_PRIVATE + 4,
            (Abi::Arm, "set_tls") => ARM_PRIVATE + 5,
            (Abi::Arm, "get_tls") => ARM_PRIVATE + 6,
            (_, "listns") => 470,
            _ => return None,
        };
        Some(number)
    }
}

/// Those that x32 numbers apart, because their arguments hold pointers or `long`s in memory.
const X32_OWN: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

fn x32_number(name: &str) -> Option<u32> {
    let own = X32_OWN.iter().find(|(own, _)| *own == name).map(|(_, number)| *number);
    own.or_else(|| Abi::X86_64.number(name)).map(|number| number | X32_BIT)
}
