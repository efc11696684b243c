//! The text of the default profile.
//!
//! It is a second line behind capabilities, filters of system calls, masks and read-only mounts,
//! for the day on which one of those has a hole: settings of the kernel and of devices cannot be
//! written, memory of the kernel cannot be read, nothing can be mounted, and processes outside of
//! containers can be neither traced nor sent signals, whatever a container's user and
//! capabilities are. Files are not its matter otherwise: a container sees none but its own.

use std::{collections::BTreeMap, fmt::Write, path::Path};

/// Rules of this version let classes pass that it does not know, such as `userns`, which a profile
/// would have to name as soon as the kernel knows them. Parsers from 3.0 on come with the file.
const ABI: &str = "abi/3.0";

/// Settings below `/proc/sys` that belong to a namespace of the container's.
const OWN_SETTINGS: [&str; 7] = [
    "fs/mqueue/",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/msg",
    "kernel/sem",
    "kernel/shm",
    "net/",
];

/// What cannot even be read: memory of the kernel and of others, what a key on the console
/// would do, what firmware and policies say, and the meters of power, which tell keys.
const HIDDEN: [&str; 11] = [
    "/proc/acpi/**",
    "/proc/kcore",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/sysrq-trigger",
    "/sys/devices/virtual/powercap/**",
    "/sys/firmware/**",
    "/sys/kernel/debug/**",
    "/sys/kernel/security/**",
    "/sys/kernel/tracing/**",
];

/// The profile of this name. `daemon` is the profile of who sends signals to containers, where
/// that is confined itself.
pub(super) fn text(name: &str, daemon: Option<&str>) -> String {
    let abi = Path::new("/etc/apparmor.d").join(ABI).exists().then_some(ABI);
    let mut text = String::new();
    if let Some(abi) = abi {
        text.push_str(&format!("abi <{abi}>,\n"));
    }
    // What is reached by a descriptor from elsewhere, or has been deleted, has rules as well.
    text.push_str(&format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{\n"));
    let mut rule = |rule: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {rule},");
    };
    ["file", "network", "unix", "capability"].into_iter().for_each(&mut rule);
    ["deny mount", "deny umount", "deny pivot_root"].into_iter().for_each(&mut rule);
    rule("signal (receive) peer=unconfined");
    if let Some(daemon) = daemon {
        rule(&format!("signal (receive) peer=\"{daemon}\""));
    }
    rule(&format!("signal (send, receive) peer={name}"));
    rule(&format!("ptrace (trace, tracedby, read, readby) peer={name}"));
    let processes: Vec<String> = (0..=9).map(|digit| digit.to_string()).collect();
    let of_proc: Vec<&str> = processes.iter().map(String::as_str).chain(["sys/"]).collect();
    for glob in all_but("/proc/", &of_proc)
        .into_iter()
        .chain(all_but("/proc/sys/", &OWN_SETTINGS))
        .chain(all_but("/sys/", &["fs/cgroup/"]))
        // A program that the kernel would start outside of all containers.
        .chain(["/sys/fs/cgroup/{,**/}release_agent".to_owned()])
    {
        rule(&format!("deny {glob} wkl"));
    }
    for glob in HIDDEN {
        rule(&format!("deny {glob} rwkl"));
    }
    text.push_str("}\n");
    text
}

/// Patterns that together match what lies below a path and begins with none of the `kept`.
///
/// Denials have no exceptions, and go before whatever is allowed. So each pattern leaves the
/// kept names at another letter: for `shm` these are `[^s]**`, `s[^h]**` and `sh[^m]**`.
fn all_but(path: &str, kept: &[&str]) -> Vec<String> {
    let mut next: BTreeMap<char, Vec<&str>> = BTreeMap::new();
    for name in kept {
        let mut letters = name.chars();
        match letters.next() {
            Some(letter) => next.entry(letter).or_default().push(letters.as_str()),
            // All that begins so is kept.
            None => return Vec::new(),
        }
    }
    let letters: String = next.keys().collect();
    let mut globs = vec![format!("{path}[^{letters}]**")];
    for (letter, rest) in next {
        globs.extend(all_but(&format!("{path}{letter}"), &rest));
    }
    globs
}

#[cfg(test)]
mod tests {
    use super::{OWN_SETTINGS, all_but, text};

    /// Matches the patterns of `all_but`: letters, then one that is none of some, then anything.
    fn matches(glob: &str, path: &str) -> bool {
        let (letters, class) = glob.split_once("[^").unwrap();
        let class = class.strip_suffix("]**").unwrap();
        let rest = path.strip_prefix(letters).and_then(|rest| rest.chars().next());
        rest.is_some_and(|letter| !class.contains(letter))
    }

    #[test]
    fn all_but_what_is_kept_is_denied() {
        let globs = all_but("/proc/sys/", &OWN_SETTINGS);
        let denied = |path: &str| globs.iter().any(|glob| matches(glob, path));
        for path in [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/kernel/sysrq",
            "/proc/sys/kernel/hung_task_panic",
            "/proc/sys/kernel/sched_rt_runtime_us",
            "/proc/sys/vm/overcommit_memory",
            "/proc/sys/fs/binfmt_misc/register",
            "/proc/sys/fs/file-max",
            "/proc/sys/user/max_user_namespaces",
        ] {
            assert!(denied(path), "{path}");
        }
        for path in [
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/kernel/shmmax",
            "/proc/sys/kernel/shm_rmid_forced",
            "/proc/sys/kernel/msgmni",
            "/proc/sys/kernel/sem",
            "/proc/sys/kernel/hostname",
            "/proc/sys/fs/mqueue/msg_max",
        ] {
            assert!(!denied(path), "{path}");
        }
    }

    #[test]
    fn a_confined_daemon_may_send_signals() {
        let text = text("x", Some("a daemon"));
        assert!(text.contains("signal (receive) peer=\"a daemon\",\n"), "{text}");
        assert!(text.contains("deny /sys/[^f]** wkl,\n"), "{text}");
        assert!(text.contains("deny /sys/fs/cgrou[^p]** wkl,\n"), "{text}");
        assert!(text.contains("deny /proc/[^0123456789s]** wkl,\n"), "{text}");
        assert!(text.starts_with("abi <") || text.starts_with("profile x "), "{text}");
    }
}
