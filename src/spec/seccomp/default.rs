//! The profile `RuntimeDefault`: what users of containerd and Docker know by this name.
//!
//! Everything that is not allowed fails with `EPERM`. Left out are the calls that reach the
//! node (mounts, modules, clocks, namespaces), the kernel's keyrings, which know no
//! namespaces, and those whose history of holes is longer than their list of users, such as
//! `io_uring` and `userfaultfd`. A capability opens the calls that it is for.

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::names::{ALLOWED, OF_PROCESSOR};
use crate::spec::capabilities::Set;

/// The profile `RuntimeDefault` for a container with these capabilities.
pub fn default_profile(capabilities: &Set) -> LinuxSeccomp {
    let mut syscalls: Vec<LinuxSyscall> = ALLOWED.iter().map(|names| allow(names)).collect();
    syscalls.push(allow(OF_PROCESSOR));
    let personalities = PERSONALITIES.iter().map(|&value| (u64::MAX, value));
    syscalls.extend(personalities.filter_map(|(mask, value)| allow_if("personality", mask, value)));
    syscalls.extend(FAMILIES.iter().filter_map(|&(mask, value)| allow_if("socket", mask, value)));
    let opened = BY_CAPABILITY.iter().filter(|(capability, _)| capabilities.contains(capability));
    syscalls.extend(opened.map(|(_, names)| allow(names)));
    if !capabilities.contains(&Capability::SysAdmin) {
        syscalls.extend(allow_if("clone", NAMESPACES, 0));
        syscalls.push(unknown("clone3"));
    }
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(libc::EPERM as u32));
    profile.set_architectures(Some(ARCHITECTURES.to_vec()));
    profile.set_syscalls(Some(syscalls));
    profile
}

/// The machine's own and those of its 32-bit programs.
const ARCHITECTURES: &[Arch] = if cfg!(target_arch = "aarch64") {
    &[Arch::ScmpArchAarch64, Arch::ScmpArchArm]
} else {
    &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
};

/// `CLONE_NEW*`. The flags of `clone3` are in memory, where a filter does not see them, so
/// that it must seem not to exist for programs to fall back on `clone`.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Linux and Linux of 32 bits, each also with `UNAME26`, and the question for the current one.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The address families of sockets as masks and values: all but 38, `AF_ALG`, whose code has
/// given root away, and 40, `AF_VSOCK`, which leads to the hypervisor past every network
/// namespace. The kernel takes the lower 32 bits alone, so that only these are compared:
/// plain comparisons of 64 bits would let `1 << 32 | AF_ALG` through.
const FAMILIES: [(u64, u64); 8] = [
    (0xffff_ffe0, 0),
    (0xffff_fffc, 32),
    (0xffff_fffe, 36),
    (0xffff_ffff, 39),
    (0xffff_ffff, 41),
    (0xffff_fffe, 42),
    (0xffff_fffc, 44),
    (0xffff_fff0, 48),
];

/// What each capability is for.
const BY_CAPABILITY: &[(Capability, &[&str])] = &[
    (Capability::Bpf, &["bpf"]),
    (Capability::DacReadSearch, &["open_by_handle_at"]),
    (Capability::Perfmon, &["perf_event_open"]),
    (Capability::SysAdmin, ADMINISTRATION),
    (Capability::SysBoot, &["reboot"]),
    (Capability::SysChroot, &["chroot"]),
    (Capability::SysModule, &["delete_module", "finit_module", "init_module"]),
    (Capability::SysNice, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (Capability::SysPacct, &["acct"]),
    (Capability::SysPtrace, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (Capability::SysRawio, &["ioperm", "iopl"]),
    (Capability::SysTime, &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (Capability::SysTtyConfig, &["vhangup"]),
    (Capability::Syslog, &["syslog"]),
];

/// What `CAP_SYS_ADMIN` is for, among much else.
const ADMINISTRATION: &[&str] = &[
    "bpf",
    "clone",
    "clone3",
    "fanotify_init",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "listns",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "perf_event_open",
    "quotactl",
    "quotactl_fd",
    "setdomainname",
    "sethostname",
    "setns",
    "syslog",
    "umount",
    "umount2",
    "unshare",
];

fn allow(names: &[&str]) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect());
    rule.set_action(LinuxSeccompAction::ScmpActAllow);
    rule
}

/// Allows a call whose first argument has this value under a mask.
fn allow_if(name: &str, mask: u64, value: u64) -> Option<LinuxSyscall> {
    let argument = LinuxSeccompArgBuilder::default()
        .index(0_usize)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .value(mask)
        .value_two(value)
        .build();
    let mut rule = allow(&[name]);
    rule.set_args(Some(vec![argument.ok()?]));
    Some(rule)
}

fn unknown(name: &str) -> LinuxSyscall {
    let mut rule = allow(&[name]);
    rule.set_action(LinuxSeccompAction::ScmpActErrno);
    rule.set_errno_ret(Some(libc::ENOSYS as u32));
    rule
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, str::FromStr};

    use oci_spec::runtime::{Capability, LinuxSeccomp};
    use syscalls::{aarch64, arm, x86, x86_64};

    use super::{ALLOWED, BY_CAPABILITY, FAMILIES, default_profile};
    use crate::spec::capabilities::Set;

    fn allowed(profile: &LinuxSeccomp, name: &str) -> bool {
        let rules = profile.syscalls().as_ref().unwrap();
        rules.iter().any(|rule| {
            rule.names().iter().any(|known| known == name)
                && rule.args().is_none()
                && rule.errno_ret().is_none()
        })
    }

    #[test]
    fn capabilities_open_what_they_are_for() {
        let plain = default_profile(&Set::new());
        for (capability, names) in BY_CAPABILITY {
            let profile = default_profile(&Set::from([*capability]));
            for name in *names {
                assert!(allowed(&profile, name), "{capability:?} {name}");
                assert!(!allowed(&plain, name), "{name}");
            }
        }
    }

    #[test]
    fn dangerous_calls_are_closed_whatever_a_container_may_do() {
        let all = BY_CAPABILITY.iter().map(|(capability, _)| *capability).collect();
        let profile = default_profile(&all);
        for name in
            ["io_uring_setup", "io_uring_enter", "keyctl", "add_key", "userfaultfd", "kexec_load"]
        {
            assert!(!allowed(&profile, name), "{name}");
        }
        assert!(allowed(&profile, "clone3"));
        let plain = default_profile(&Set::from([Capability::Chown]));
        assert!(!allowed(&plain, "clone3") && !allowed(&plain, "clone"));
    }

    #[test]
    fn families_are_all_but_two() {
        let allowed = |family: u64| FAMILIES.iter().any(|(mask, value)| family & mask == *value);
        for family in 0..64 {
            let closed = family == 38 || family == 40;
            assert_eq!(allowed(family), !closed, "{family}");
            assert_eq!(allowed(1 << 32 | family), !closed, "{family} with a bit above");
        }
    }

    #[test]
    fn no_name_is_misspelt_or_listed_twice() {
        let mut seen = BTreeSet::new();
        for name in ALLOWED.iter().copied().flatten() {
            let known = x86_64::Sysno::from_str(name).is_ok()
                || x86::Sysno::from_str(name).is_ok()
                || aarch64::Sysno::from_str(name).is_ok()
                || arm::Sysno::from_str(name).is_ok();
            assert!(known, "{name}");
            assert!(seen.insert(name), "{name} twice");
        }
    }
}
