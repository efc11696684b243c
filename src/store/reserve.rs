//! Space that the database has beforehand, so that on a full disk it still takes what makes
//! room: records that go.
//!
//! Blocks beyond the end of its files are allocated (`FALLOC_FL_KEEP_SIZE` of fallocate(2)).
//! A write into them needs no free block, whoever fills the disk and however fast.

use std::{fs::File, os::fd::AsFd, path::Path};

use rustix::fs::{FallocateFlags, fallocate, fstat, statvfs};

/// The database grows by a record or two while things are removed.
const DATABASE: u64 = 1 << 20;
/// The log of writes has some four million bytes before SQLite begins it anew, in place.
const LOG: u64 = 6 << 20;

/// Whether the disk of a file has less room left than anything new could need.
pub(super) fn is_full(path: &Path) -> bool {
    statvfs(path).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < DATABASE / 4)
}

/// Both files, held open for as long as the process lives: POSIX gives up a process's locks on
/// a file when any descriptor of it is closed (fcntl(2)), also those that SQLite has.
pub(super) struct Reserve {
    database: Option<File>,
    log: Option<File>,
}

impl Reserve {
    /// Opens the files; a disk that takes no writes has no reserve.
    pub(super) fn open(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let open = |path: &Path| {
            File::options().create(true).truncate(false).read(true).write(true).open(path).ok()
        };
        Self { database: open(database), log: open(Path::new(&log)) }
    }

    /// Of a database that is only read.
    pub(super) fn none() -> Self {
        Self { database: None, log: None }
    }

    /// Allocates what is missing. What the disk does not give now is asked for again.
    pub(super) fn fill(&self) {
        for (file, extra, from_end) in [(&self.database, DATABASE, true), (&self.log, LOG, false)] {
            let Some(file) = file else { continue };
            let size = fstat(file.as_fd()).map_or(0, |stat| stat.st_size.cast_unsigned());
            let start = if from_end { size } else { 0 };
            // Without it, a full disk refuses the write, and says so.
            let _ = fallocate(file.as_fd(), FallocateFlags::KEEP_SIZE, start, extra);
        }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // See the type: the locks of SQLite must outlive this.
        for file in [self.database.take(), self.log.take()].into_iter().flatten() {
            std::mem::forget(file);
        }
    }
}
