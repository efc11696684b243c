//! What the whole node has a limited number of, and its clock.

use std::{fs, io, path::Path};

use super::finding::Finding;
use crate::sys::probe;

/// A pod has some ten processes, a node some hundred pods, and the kubelet looks for that much.
const LEAST_PROCESSES: u64 = 32_768;
/// Programs that watch files, one instance each, and a handful of them for each pod.
const LEAST_INSTANCES: u64 = 512;
/// A program that watches a tree takes one for each directory.
const LEAST_WATCHES: u64 = 65_536;
/// Of the whole machine: monitors, pipes of logs and sockets of pods take a few dozen for a pod.
const LEAST_FILES: u64 = 262_144;
/// Of the daemon; it raises its own limit as far as this.
const LEAST_DESCRIPTORS: u64 = 65_536;

/// Everything about limits of the node, below `/proc`.
pub(super) fn survey(proc: &Path) -> Vec<Finding> {
    let number = |name: &str| {
        let file = proc.join("sys").join(name.replace('.', "/"));
        fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()
    };
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    vec![
        judge_processes(number),
        judge_files(number, descriptors),
        judge_inotify(number),
        judge_unprivileged(number),
        judge_clock(probe::clock_is_synchronized()),
    ]
}

fn judge_processes(read: impl Fn(&str) -> Option<u64>) -> Finding {
    let (what, names) = ("processes", ["kernel.pid_max", "kernel.threads-max"]);
    let (found, least) = told(names, &read);
    if least >= LEAST_PROCESSES {
        return Finding::ok(what, found);
    }
    let mend = format!(
        "set kernel.pid_max and kernel.threads-max to {LEAST_PROCESSES} or more: where they are \
         used up no process can be started, on the node and in any pod"
    );
    Finding::warn(what, found, mend)
}

fn judge_files(read: impl Fn(&str) -> Option<u64>, descriptors: Option<u64>) -> Finding {
    let (what, names) = ("open files", ["fs.file-max", "fs.nr_open"]);
    let (mut found, least) = told(names, &read);
    // None is no limit.
    let descriptors = descriptors.unwrap_or(u64::MAX);
    if descriptors != u64::MAX {
        found.push_str(&format!(", {descriptors} for a program started from here"));
    }
    if least < LEAST_FILES {
        let mend = format!(
            "set fs.file-max and fs.nr_open to {LEAST_FILES} or more: a daemon with some hundred \
             pods and their programs run into it"
        );
        return Finding::warn(what, found, mend);
    }
    if descriptors < LEAST_DESCRIPTORS {
        let mend = "the packaged unit has LimitNOFILE=1048576; a daemon that is started otherwise \
                    needs ulimit -Hn 65536 or more for some hundred pods";
        return Finding::warn(what, found, mend);
    }
    Finding::ok(what, found)
}

fn judge_inotify(read: impl Fn(&str) -> Option<u64>) -> Finding {
    let what = "inotify";
    let (instances, watches) = ("fs.inotify.max_user_instances", "fs.inotify.max_user_watches");
    let (found, _) = told([instances, watches], &read);
    let is_small = |name: &str, least| read(name).is_some_and(|value| value < least);
    if !is_small(instances, LEAST_INSTANCES) && !is_small(watches, LEAST_WATCHES) {
        return Finding::ok(what, found);
    }
    let mend = format!(
        "set {instances}={LEAST_INSTANCES} and {watches}={LEAST_WATCHES} or more: they are those \
         of user 0 for the kubelet and all pods that run as root, which otherwise fail with \
         \"too many open files\" and \"no space left on device\""
    );
    Finding::warn(what, found, mend)
}

/// Debian's own switch; Criquet is root and needs no leave.
fn judge_unprivileged(read: impl Fn(&str) -> Option<u64>) -> Finding {
    let what = "unprivileged userns";
    let debian = read("kernel.unprivileged_userns_clone");
    let ubuntu = read("kernel.apparmor_restrict_unprivileged_userns");
    Finding::ok(
        what,
        match (debian, ubuntu) {
            (Some(0), _) | (_, Some(1)) => {
                "off: pods with hostUsers: false work, rootless programs inside of pods do not"
            }
            _ => "on: programs in pods can make user namespaces of their own",
        },
    )
}

fn judge_clock(tried: io::Result<bool>) -> Finding {
    let what = "clock";
    let mend = "run a client of NTP (systemd-timesyncd, chrony): certificates and leases of the \
                cluster go by time, and nodes that differ fall out of it";
    match tried {
        Ok(true) => Finding::ok(what, "synchronised"),
        Ok(false) => Finding::warn(what, "not synchronised with anybody", mend),
        Err(error) => Finding::warn(what, format!("cannot be asked: {error}"), mend),
    }
}

/// Values as sysctl(8) prints them, and the smallest; what a kernel does not have limits nobody.
fn told(names: [&str; 2], read: impl Fn(&str) -> Option<u64>) -> (String, u64) {
    let known: Vec<(&str, u64)> =
        names.into_iter().filter_map(|name| Some((name, read(name)?))).collect();
    let found: Vec<String> = known.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let least = known.iter().map(|(_, value)| *value).min().unwrap_or(u64::MAX);
    let found = if found.is_empty() { "no limit is told".to_owned() } else { found.join(" ") };
    (found, least)
}

#[cfg(test)]
mod tests {
    use std::{fs, io, path::Path};

    use super::{judge_clock, judge_files, survey};
    use crate::cli::check::{Finding, Status};

    const GOOD: [(&str, u64); 6] = [
        ("kernel/pid_max", 4_194_304),
        ("kernel/threads-max", 126_000),
        ("fs/file-max", 9_000_000),
        ("fs/nr_open", 1_048_576),
        ("fs/inotify/max_user_instances", 8192),
        ("fs/inotify/max_user_watches", 524_288),
    ];

    /// A tree of settings with some that differ.
    fn tree(proc: &Path, others: &[(&str, u64)]) {
        for (name, value) in GOOD.iter().chain(others) {
            let file = proc.join("sys").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{value}\n")).unwrap();
        }
    }

    fn finding(others: &[(&str, u64)], what: &str) -> Finding {
        let proc = tempfile::tempdir().unwrap();
        tree(proc.path(), others);
        survey(proc.path()).into_iter().find(|finding| finding.what == what).unwrap()
    }

    #[test]
    fn a_limit_that_is_too_small_is_named() {
        for (what, name, value) in [
            ("processes", "kernel/pid_max", 4096),
            ("processes", "kernel/threads-max", 2000),
            ("open files", "fs/file-max", 65_536),
            ("inotify", "fs/inotify/max_user_instances", 128),
            ("inotify", "fs/inotify/max_user_watches", 8192),
        ] {
            let finding = finding(&[(name, value)], what);
            assert_eq!(finding.status, Status::Warn, "{finding:?}");
            let told = format!("{}={value}", name.replace('/', "."));
            assert!(finding.found.contains(&told), "{finding:?}");
            assert!(finding.mend.contains(&name.replace('/', ".")), "{finding:?}");
        }
        for what in ["processes", "inotify", "unprivileged userns"] {
            assert_eq!(finding(&[], what).status, Status::Ok, "{what}");
        }
    }

    #[test]
    fn what_a_kernel_does_not_have_limits_nobody() {
        let proc = tempfile::tempdir().unwrap();
        let found = survey(proc.path());
        let inotify = found.iter().find(|finding| finding.what == "inotify").unwrap();
        assert_eq!((inotify.status, inotify.found.as_str()), (Status::Ok, "no limit is told"));
    }

    #[test]
    fn user_namespaces_of_programs_in_pods() {
        let name = "kernel/unprivileged_userns_clone";
        assert!(finding(&[(name, 0)], "unprivileged userns").found.starts_with("off"));
        assert!(finding(&[(name, 1)], "unprivileged userns").found.starts_with("on"));
    }

    #[test]
    fn descriptors_of_a_program() {
        let read = |_: &str| Some(1 << 20);
        assert_eq!(judge_files(read, Some(1024)).status, Status::Warn);
        assert_eq!(judge_files(read, Some(1 << 20)).status, Status::Ok);
        assert_eq!(judge_files(read, None).status, Status::Ok);
    }

    #[test]
    fn a_clock_that_nobody_sets_is_a_warning() {
        assert_eq!(judge_clock(Ok(true)).status, Status::Ok);
        assert_eq!(judge_clock(Ok(false)).status, Status::Warn);
        assert_eq!(judge_clock(Err(io::ErrorKind::Unsupported.into())).status, Status::Warn);
    }
}
