//! The file system that containers write to.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{major, minor, statvfs};

/// What it has room for, and what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What is mounted: `/dev/sda1`.
    pub device: String,
    /// Bytes.
    pub capacity: u64,
    /// Files; none where the file system has no table of them.
    pub inodes: Option<u64>,
    /// Files that can still be made.
    pub inodes_free: Option<u64>,
}

/// Looks at the file system of a directory, which may not answer for a long time.
///
/// # Errors
/// Those of the file system.
pub fn look(directory: &Path) -> io::Result<Disk> {
    let figures = statvfs(directory)?;
    let device = fs::metadata(directory)?.dev();
    let device = format!("{}:{}", major(device), minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let has_table = figures.f_files > 0;
    Ok(Disk {
        device: source_of(&mounts, &device).map_or(device, str::to_owned),
        capacity: figures.f_blocks.saturating_mul(figures.f_frsize),
        inodes: has_table.then_some(figures.f_files),
        inodes_free: has_table.then_some(figures.f_ffree),
    })
}

/// What is mounted from a device (proc_pid_mountinfo(5)).
pub(super) fn source_of<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_it = before.split(' ').nth(2) == Some(device);
        is_it.then(|| after.split(' ').nth(1))?
    })
}
