//! What containers have written to their own layers.
//!
//! Nobody who asks waits for a walk through files: the answer is the last measurement, and
//! where that is older than [`FRESH`], asking starts the next one in the background. A
//! container that has ended is measured once more and then no longer. A daemon that nobody
//! asks measures nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use crate::pod::{Pods, container::Container, id::ContainerId};

/// How old a measurement may be; as often as the others measure.
pub const FRESH: Duration = Duration::from_secs(10);
/// Directories within directories that are counted.
const DEPTH: usize = 512;

/// Space on a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of whole blocks.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// What one container's layer takes, and when that was so.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Space.
    pub usage: Usage,
    /// By the wall clock.
    pub at: SystemTime,
    /// Nothing changes it any more.
    is_final: bool,
}

/// The last measurements.
#[derive(Debug, Default)]
pub(in crate::pod) struct Measurements {
    // Look-ups and single insertions, never across a walk.
    known: Mutex<Known>,
    is_measuring: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    by_container: BTreeMap<ContainerId, Measured>,
    /// When the last round ended.
    round: Option<Instant>,
}

impl Pods {
    /// What a container has written, as of the last measurement; nothing before the first.
    pub fn writable_layer(self: &Arc<Self>, container: &Container) -> Option<Measured> {
        self.measure_if_old();
        self.measurements.lock().by_container.get(&container.id).copied()
    }

    /// What all containers have written, as of the last measurement, and when that was; nothing
    /// before the first.
    pub fn writable_layers(self: &Arc<Self>) -> Option<(Usage, SystemTime)> {
        self.measure_if_old();
        let known = self.measurements.lock();
        known.round?;
        let all = known.by_container.values();
        Some(all.fold((Usage::default(), SystemTime::now()), |(sum, at), measured| {
            let Usage { bytes, inodes } = measured.usage;
            let sum = Usage { bytes: sum.bytes + bytes, inodes: sum.inodes + inodes };
            (sum, if measured.is_final { at } else { at.min(measured.at) })
        }))
    }

    fn measure_if_old(self: &Arc<Self>) {
        let is_fresh = self.measurements.lock().round.is_some_and(|end| end.elapsed() < FRESH);
        if is_fresh || self.measurements.is_measuring.swap(true, Ordering::AcqRel) {
            return;
        }
        let pods = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            pods.measure();
            pods.measurements.is_measuring.store(false, Ordering::Release);
        });
    }

    fn measure(&self) {
        let containers = self.containers();
        let ids: BTreeSet<ContainerId> = containers.iter().map(|c| c.id.clone()).collect();
        self.measurements.lock().by_container.retain(|id, _| ids.contains(id));
        for container in containers {
            let known = self.measurements.lock().by_container.get(&container.id).copied();
            if known.is_some_and(|known| known.is_final) {
                continue;
            }
            // Asked before the walk: what was written until its end is counted.
            let is_final = container.has_ended();
            let usage = usage_of(&self.upper_directory(&container.id));
            let measured = Measured { usage, at: SystemTime::now(), is_final };
            self.measurements.lock().by_container.insert(container.id.clone(), measured);
        }
        self.measurements.lock().round = Some(Instant::now());
    }
}

impl Measurements {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Walks through a directory that a container may be changing: nothing is followed, and what
/// disappears on the way is not counted.
fn usage_of(directory: &Path) -> Usage {
    let mut usage = Usage { bytes: 4096, inodes: 1 };
    let mut linked = HashSet::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |at: Option<&OwnedFd>, name: &std::ffi::CStr| {
        let fd = match at {
            Some(at) => rustix::fs::openat(at, name, flags, Mode::empty()),
            None => rustix::fs::openat(CWD, directory, flags, Mode::empty()),
        };
        fd.and_then(|fd| Dir::read_from(&fd).map(|entries| (fd, entries))).ok()
    };
    let mut open_directories: Vec<(OwnedFd, Dir)> = open(None, c"").into_iter().collect();
    while let Some((fd, entries)) = open_directories.last_mut() {
        let Some(Ok(entry)) = entries.next() else {
            open_directories.pop();
            continue;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory && stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        usage.bytes += stat.st_blocks as u64 * 512;
        usage.inodes += 1;
        if is_directory && open_directories.len() < DEPTH {
            let inner = open_directories.last().and_then(|(fd, _)| open(Some(fd), name));
            open_directories.extend(inner);
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{Usage, usage_of};

    #[test]
    fn files_count_once_and_links_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(directory.path().join("outside"), vec![1; 1 << 20]).unwrap();
        fs::write(root.join("a/b/file"), vec![1; 10_000]).unwrap();
        fs::hard_link(root.join("a/b/file"), root.join("again")).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        let usage = usage_of(&root);
        assert_eq!(usage.inodes, 6, "root, a, b, file, two links");
        assert!((12_288..100_000).contains(&usage.bytes), "{usage:?}");
        assert_eq!(usage_of(&root.join("absent")), Usage { bytes: 4096, inodes: 1 });
    }
}
