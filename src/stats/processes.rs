//! What the processes of a cgroup have open. Counting takes a look at each of their
//! descriptors, so that it is for the background.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Cgroups below the one that is looked at: those of commands in a container, and what
/// programs of its own make there.
const MAX_CGROUPS: usize = 256;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// When, in nanoseconds since the epoch.
    pub at: i64,
    /// Processes.
    pub processes: u64,
    /// Their descriptors.
    pub descriptors: u64,
    /// Those of them that are sockets.
    pub sockets: u64,
    /// How many descriptors the first of them may have; none for any number.
    pub descriptors_max: Option<u64>,
}

/// Counts what is there; nothing where that is more than `most`, or nobody is there.
pub fn count(directory: &Path, most: u64) -> Option<Processes> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_nanos() as i64;
    let mut counted = Processes { at, ..Processes::default() };
    let mut first = None;
    for pid in pids(directory) {
        counted.processes += 1;
        first = first.or(Some(pid));
        // One that has ended meanwhile has none.
        let entries = fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in entries.into_iter().flatten().flatten() {
            counted.descriptors += 1;
            if counted.processes + counted.descriptors > most {
                return None;
            }
            let target = fs::read_link(entry.path());
            let is_socket = target.is_ok_and(|path| path.to_string_lossy().starts_with("socket:"));
            counted.sockets += u64::from(is_socket);
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", first?)).unwrap_or_default();
    counted.descriptors_max = soft_limit(&limits, "Max open files");
    Some(counted)
}

/// The processes here and below.
fn pids(directory: &Path) -> Vec<u32> {
    let mut directories: Vec<PathBuf> = vec![directory.to_owned()];
    let mut pids = Vec::new();
    let mut next = 0;
    while let Some(directory) = directories.get(next).cloned() {
        next += 1;
        let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        pids.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let room = MAX_CGROUPS.saturating_sub(directories.len());
        directories.extend(below.take(room).map(|entry| entry.path()));
    }
    pids
}

/// A soft limit of `/proc/PID/limits`; none for any number.
pub(super) fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
