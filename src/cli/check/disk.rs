//! The disk that images and containers are kept on.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Dir, FileType, StatFs, statfs};

use super::finding::Finding;
use crate::{
    cli::config::Config,
    sys::quota::{self, Support},
};

/// `f_type` of filesystems that matter here.
const NAMES: [(u64, &str); 12] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x2fc1_2fc1, "zfs"),
    (TMPFS, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (OVERLAY, "overlay"),
    (0x6969, "nfs"),
    (0x6573_5546, "fuse"),
    (0xff53_4d42, "cifs"),
];
const TMPFS: u64 = 0x0102_1994;
const OVERLAY: u64 = 0x794c_7630;

/// What a node should have free at least, in bytes.
const ROOM: u64 = 5 << 30;

/// The configured root, or the nearest directory above it that exists.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory.
    pub directory: PathBuf,
}

impl Place {
    pub(super) fn of(root: &Path) -> Self {
        let directory = root.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
        Self { directory: directory.to_owned() }
    }

    /// An empty directory there, to try things in.
    pub(super) fn scratch(&self) -> io::Result<Scratch> {
        let path = self.directory.join(format!(".criquet-check-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Scratch { path })
    }
}

/// A directory that goes with all that is in it.
#[derive(Debug)]
pub(super) struct Scratch {
    pub path: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It has a name that says whose it is, should something keep it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Filesystem, room and entry types.
pub(super) fn survey(config: &Config, place: &Place) -> Vec<Finding> {
    let facts = match statfs(&place.directory) {
        Ok(facts) => facts,
        Err(error) => {
            let mend = "mount a disk there, or set root";
            return vec![Finding::fail("disk", io::Error::from(error), mend)];
        }
    };
    vec![
        judge_filesystem(facts.f_type as u64, &place.directory),
        judge_room(&facts),
        judge_inodes(facts.f_files, facts.f_ffree),
        judge_entry_types(entry_types(place)),
        judge_quotas(quotas(place), config.writable_layer_limit),
        judge_state(Place::of(&config.state)),
    ]
}

fn name_of(kind: u64) -> String {
    let known = NAMES.iter().find(|(number, _)| *number == kind);
    known.map_or_else(|| format!("filesystem {kind:#x}"), |(_, name)| (*name).to_owned())
}

fn judge_filesystem(kind: u64, directory: &Path) -> Finding {
    let what = "disk";
    let name = name_of(kind);
    let found = format!("{name} at {}", directory.display());
    match name.as_str() {
        "overlay" => Finding::fail(
            what,
            found,
            "set root to a directory on a disk of its own (in a container: a volume); overlay \
             cannot lie on overlay",
        ),
        "nfs" | "cifs" | "fuse" => Finding::fail(
            what,
            found,
            "set root to a directory on a local disk; containers cannot write on this one",
        ),
        "tmpfs" | "ramfs" => Finding::warn(
            what,
            found,
            "images are gone after a reboot and take memory; set root to a directory on a disk",
        ),
        _ => Finding::ok(what, found),
    }
}

fn judge_room(facts: &StatFs) -> Finding {
    let size = facts.f_frsize as u64;
    judge_bytes(facts.f_blocks.saturating_mul(size), facts.f_bavail.saturating_mul(size))
}

fn judge_bytes(total: u64, free: u64) -> Finding {
    let what = "disk space";
    let found = format!("{} of {} GiB free", free >> 30, total >> 30);
    if free < ROOM || free < total / 10 {
        let mend = "make room, or set root to a larger disk: the kubelet removes images when less \
                    than 15 % are free, and pods at 10 %";
        return Finding::warn(what, found, mend);
    }
    Finding::ok(what, found)
}

/// Filesystems that make inodes as they need them say that they have none.
fn judge_inodes(total: u64, free: u64) -> Finding {
    let what = "inodes";
    if total == 0 {
        return Finding::ok(what, "made as they are needed");
    }
    let found = format!("{free} of {total} free");
    if free < total / 20 {
        let mend = "remove small files, or make the filesystem anew with more inodes (mkfs -N)";
        return Finding::warn(what, found, mend);
    }
    Finding::ok(what, found)
}

/// Whether directories say what kind of file an entry is (`d_type`), which overlay needs.
fn entry_types(place: &Place) -> io::Result<bool> {
    let scratch = place.scratch()?;
    File::create(scratch.path.join("file"))?;
    let directory = File::open(&scratch.path)?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if entry.file_name().to_bytes() == b"file" {
            return Ok(entry.file_type() == FileType::RegularFile);
        }
    }
    Ok(false)
}

fn judge_entry_types(tried: io::Result<bool>) -> Finding {
    let what = "d_type";
    match tried {
        Ok(true) => Finding::ok(what, "works"),
        Ok(false) => Finding::fail(
            what,
            "directories do not say what their entries are",
            "make the filesystem anew: mkfs.xfs -n ftype=1, mkfs.ext4 -O filetype",
        ),
        Err(error) => {
            Finding::fail(what, error, "run as root, and set root to a directory it can write to")
        }
    }
}

fn quotas(place: &Place) -> Support {
    File::open(&place.directory)
        .map_or(Support::None, |directory| quota::support(directory.as_fd()))
}

fn judge_quotas(support: Support, limit: u64) -> Finding {
    let what = "project quotas";
    match (support, limit) {
        (Support::Enforced, _) => Finding::ok(what, "count and limit what containers write"),
        (Support::Counted, 0) => Finding::ok(what, "count what containers write"),
        (Support::None, 0) => Finding::ok(what, "off; no limit is configured"),
        (Support::Counted | Support::None, _) => Finding::warn(
            what,
            "limit nothing, and writable_layer_limit is set",
            "mount the file system of root with prjquota (ext4 also wants the features quota and \
             project)",
        ),
    }
}

fn judge_state(place: Place) -> Finding {
    let what = "state";
    let kind = statfs(&place.directory).map_or(0, |facts| facts.f_type as u64);
    let on_root_disk = fs::metadata(&place.directory).map(|facts| facts.dev()).ok()
        == fs::metadata("/").map(|facts| facts.dev()).ok();
    let found = format!("{} at {}", name_of(kind), place.directory.display());
    if kind == TMPFS || !on_root_disk {
        return Finding::ok(what, found);
    }
    Finding::warn(what, found, "put state on a tmpfs such as /run, so that a reboot empties it")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Place, Support, judge_bytes, judge_filesystem, judge_inodes, judge_quotas};
    use crate::cli::check::Status;

    #[test]
    fn filesystems() {
        for (kind, status) in [
            (0xef53, Status::Ok),
            (0x1234_5678, Status::Ok),
            (super::TMPFS, Status::Warn),
            (super::OVERLAY, Status::Fail),
            (0x6969, Status::Fail),
        ] {
            let finding = judge_filesystem(kind, Path::new("/x"));
            assert_eq!(finding.status, status, "{finding:?}");
        }
    }

    #[test]
    fn room() {
        const GIB: u64 = 1 << 30;
        assert_eq!(judge_bytes(100 * GIB, 50 * GIB).status, Status::Ok);
        assert_eq!(judge_bytes(100 * GIB, 9 * GIB).status, Status::Warn);
        assert_eq!(judge_bytes(6 * GIB, 4 * GIB).status, Status::Warn);
        assert_eq!(judge_inodes(0, 0).status, Status::Ok);
        assert_eq!(judge_inodes(1000, 10).status, Status::Warn);
        assert_eq!(judge_inodes(1000, 500).status, Status::Ok);
    }

    #[test]
    fn quotas_matter_where_a_limit_is_set() {
        assert_eq!(judge_quotas(Support::None, 0).status, Status::Ok);
        assert_eq!(judge_quotas(Support::Counted, 1).status, Status::Warn);
        assert_eq!(judge_quotas(Support::Enforced, 1).status, Status::Ok);
    }

    #[test]
    fn the_place_is_the_nearest_directory_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of(&directory.path().join("a/b/c"));
        assert_eq!(place.directory, directory.path());
    }
}
