//! Exits on disk, for a daemon that was not there and a monitor that is no more.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// 128 + n where a signal ended it.
    pub exit_code: i32,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// The kernel ended a process of it for want of memory.
    pub oom_killed: bool,
}

impl ExitRecord {
    /// Writes the record of a container; a reader sees all of it or none.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub fn write(&self, directory: &Path, container: &str) -> io::Result<()> {
        let path = path_of(directory, container);
        let temporary = path.with_extension("new");
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(temporary, path)
    }

    /// The record of a container, if it has one that can be read.
    pub fn read(directory: &Path, container: &str) -> Option<Self> {
        serde_json::from_slice(&fs::read(path_of(directory, container)).ok()?).ok()
    }

    /// Removes the record of a container, if there is one.
    pub fn remove(directory: &Path, container: &str) {
        // A record that stays is removed with the directory of its pod.
        let _ = fs::remove_file(path_of(directory, container));
    }
}

fn path_of(directory: &Path, container: &str) -> PathBuf {
    directory.join(format!("{container}.exit"))
}

#[cfg(test)]
mod tests {
    use super::ExitRecord;

    #[test]
    fn a_record_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let record = ExitRecord { exit_code: 137, finished_at: 5, oom_killed: true };
        record.write(directory.path(), "c").unwrap();
        assert_eq!(ExitRecord::read(directory.path(), "c"), Some(record));
        ExitRecord::remove(directory.path(), "c");
        assert_eq!(ExitRecord::read(directory.path(), "c"), None);
    }
}
