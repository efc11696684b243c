//! Exits on disk, for a daemon that was not there and a monitor that is no more.
//!
//! The space of a record is taken before there is anything to record: a container that fills
//! the filesystem of its pod's directory does not make its own end unknown.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::v1;

/// Counts changes of the record. Members are only ever added, and unknown ones passed over.
const VERSION: u32 = 1;

/// More than what there is to record, in bytes; the rest are spaces.
const LENGTH: usize = 512;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// 128 + n where a signal ended it.
    pub exit_code: i32,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// The kernel ended a process of it for want of memory.
    pub oom_killed: bool,
    /// How many; 0 where that was not told.
    #[serde(default)]
    pub oom_kills: u64,
    /// Its first process was among them.
    #[serde(default)]
    pub oom_killed_init: bool,
    /// It was ended because its filter of system calls refused some.
    #[serde(default)]
    pub stopped_for_refusal: bool,
}

impl From<&v1::ContainerExited> for ExitRecord {
    fn from(exit: &v1::ContainerExited) -> Self {
        Self {
            exit_code: exit.exit_code,
            finished_at: exit.finished_at,
            oom_killed: exit.oom_killed,
            oom_kills: exit.oom_kills,
            oom_killed_init: exit.oom_killed_init,
            stopped_for_refusal: exit.stopped_for_refusal,
        }
    }
}

/// A record as it is on disk. One without a version is of the time before there were any.
#[derive(Serialize)]
struct Versioned<'record> {
    version: u32,
    #[serde(flatten)]
    record: &'record ExitRecord,
}

impl ExitRecord {
    /// An end that has nothing to do with memory.
    pub fn new(exit_code: i32, finished_at: i64) -> Self {
        Self {
            exit_code,
            finished_at,
            oom_killed: false,
            oom_kills: 0,
            oom_killed_init: false,
            stopped_for_refusal: false,
        }
    }

    /// Takes the space that the record of a container will need.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub fn reserve(directory: &Path, container: &str) -> io::Result<()> {
        // Written rather than allocated (fallocate(2)), which filesystems on disks take long for.
        fs::write(reserve_of(directory, container), [b' '; LENGTH])
    }

    /// Writes the record of a container; a reader sees all of it or none. Needs no more space
    /// than what was reserved.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub fn write(&self, directory: &Path, container: &str) -> io::Result<()> {
        let reserve = reserve_of(directory, container);
        let mut record = serde_json::to_vec(&Versioned { version: VERSION, record: self })?;
        record.resize(LENGTH.max(record.len()), b' ');
        // Never shorter: what is given back could be somebody else's the next moment.
        let mut file = File::options().write(true).create(true).truncate(false).open(&reserve)?;
        file.write_all(&record)?;
        fs::rename(reserve, path_of(directory, container))
    }

    /// The record of a container, if it has one that can be read.
    pub fn read(directory: &Path, container: &str) -> Option<Self> {
        serde_json::from_slice(&fs::read(path_of(directory, container)).ok()?).ok()
    }

    /// Removes the record of a container, and what was reserved for it.
    pub fn remove(directory: &Path, container: &str) {
        // One that stays is removed with the directory of its pod.
        let _ = fs::remove_file(path_of(directory, container));
        let _ = fs::remove_file(reserve_of(directory, container));
    }
}

fn reserve_of(directory: &Path, container: &str) -> PathBuf {
    path_of(directory, container).with_extension("new")
}

fn path_of(directory: &Path, container: &str) -> PathBuf {
    directory.join(format!("{container}.exit"))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::ExitRecord;

    const RECORD: ExitRecord = ExitRecord {
        exit_code: 137,
        finished_at: 5,
        oom_killed: true,
        oom_kills: 0,
        oom_killed_init: false,
        stopped_for_refusal: false,
    };

    #[test]
    fn a_record_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        RECORD.write(directory.path(), "c").unwrap();
        assert_eq!(ExitRecord::read(directory.path(), "c"), Some(RECORD));
        ExitRecord::reserve(directory.path(), "c").unwrap();
        ExitRecord::remove(directory.path(), "c");
        assert_eq!(ExitRecord::read(directory.path(), "c"), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn records_of_other_releases_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let plain = r#""exit_code":137,"finished_at":5,"oom_killed":true}"#;
        for beginning in ["{", r#"{"version":1,"#, r#"{"version":9,"new":{"a":[1]},"#] {
            fs::write(directory.path().join("c.exit"), format!("{beginning}{plain}")).unwrap();
            assert_eq!(ExitRecord::read(directory.path(), "c"), Some(RECORD), "{beginning}");
        }
    }

    /// Fills a filesystem to the last byte.
    fn fill(directory: &Path) {
        use std::io::Write;
        let mut file = fs::File::create(directory.join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    #[test]
    fn an_exit_is_recorded_on_a_full_filesystem() {
        let full = || {
            let directory = tempfile::tempdir().unwrap();
            if let Err(error) = crate::sys::clone::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) {
                return eprintln!("SKIPPED: no mount namespace: {error}");
            }
            use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            let path = directory.path();
            mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
            ExitRecord::reserve(path, "c").unwrap();
            fill(path);
            assert!(ExitRecord::reserve(path, "d").is_err(), "it is full");
            RECORD.write(path, "c").unwrap();
            assert_eq!(ExitRecord::read(path, "c"), Some(RECORD));
            rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
        };
        // A thread, so that the rest of the tests does not see the mount.
        std::thread::spawn(full).join().unwrap();
    }
}
