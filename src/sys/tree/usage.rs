//! What a tree takes of its disk.

use std::{ffi::CStr, io, os::fd::BorrowedFd, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

use super::{MOST_OPEN, is_dots, open_directory};

/// What a tree takes of its disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in blocks.
    pub bytes: u64,
    /// Files, directories, links and all else.
    pub inodes: u64,
}

/// Counts a directory and all that is in it, while somebody may be changing it: what goes on
/// the way is not counted, and what is mounted inside is counted as the empty directory that
/// it hides. A file with several names counts once, where all of them are in the tree.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn usage(directory: BorrowedFd<'_>) -> io::Result<Usage> {
    let mut count = Count::default();
    count.add(&fstat(directory)?);
    walk(directory, |_, _, stat| {
        count.add(stat);
        true
    })?;
    Ok(count.total())
}

/// Shows all that is in a directory to `visit`, with the directory that it lies in, until that
/// returns false. Directories on other mounts are shown, and not entered.
///
/// # Errors
/// When the directory itself cannot be read.
pub(super) fn walk(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(BorrowedFd<'_>, &CStr, &Stat) -> bool,
) -> io::Result<()> {
    let root = Level::of(Dir::read_from(directory)?)?;
    let mut walk = Walk { levels: vec![root] };
    while let Some(level) = walk.levels.last_mut() {
        let Some(dir) = &mut level.dir else { break };
        let entry = match dir.read() {
            Some(Ok(entry)) => entry,
            Some(Err(_)) | None => {
                if !walk.go_up() {
                    break;
                }
                continue;
            }
        };
        level.offset = entry.offset();
        let name = entry.file_name();
        if is_dots(name) {
            continue;
        }
        let Ok(here) = dir.fd() else { break };
        let Ok(stat) = statat(here, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if !visit(here, name, &stat) {
            break;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && let Ok(inner) = open_directory(here, name).and_then(Dir::new)
            && let Ok(inner) = Level::of(inner)
        {
            walk.go_down(inner);
        }
    }
    Ok(())
}

/// The same for a path whose parents are trusted.
///
/// # Errors
/// Those of [`usage`], and of opening it.
pub fn usage_at(path: &Path) -> io::Result<Usage> {
    use std::os::fd::AsFd;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    usage(openat(CWD, path, flags, Mode::empty())?.as_fd())
}

/// Where a directory has been read to. It is open only while it is near to where the walk is.
struct Level {
    dir: Option<Dir>,
    offset: i64,
    device: u64,
    inode: u64,
}

impl Level {
    fn of(dir: Dir) -> rustix::io::Result<Self> {
        let Stat { st_dev, st_ino, .. } = dir.stat()?;
        Ok(Self { dir: Some(dir), offset: 0, device: st_dev, inode: st_ino })
    }
}

struct Walk {
    levels: Vec<Level>,
}

impl Walk {
    fn go_down(&mut self, inner: Level) {
        self.levels.push(inner);
        if let Some(far) = self.levels.len().checked_sub(MOST_OPEN + 1) {
            self.levels[far].dir = None;
        }
    }

    /// Returns to the directory above. One that was closed is opened by `..`, which leads
    /// elsewhere when somebody has moved the one below: the walk then ends.
    fn go_up(&mut self) -> bool {
        let Some(below) = self.levels.pop() else { return false };
        let Some(level) = self.levels.last_mut() else { return false };
        if level.dir.is_none() {
            let reopened = below.dir.and_then(|dir| parent_of(&dir, level).ok());
            level.dir = reopened;
        }
        level.dir.is_some()
    }
}

fn parent_of(below: &Dir, level: &Level) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = Dir::new(openat(below.fd()?, c"..", flags, Mode::empty())?)?;
    let stat = dir.stat()?;
    if (stat.st_dev, stat.st_ino) != (level.device, level.inode) {
        return Err(Errno::NOENT);
    }
    dir.seek(level.offset)?;
    Ok(dir)
}

/// A file with several names counts for each with its share, so that none of them has to be
/// remembered.
#[derive(Default)]
struct Count {
    whole: Usage,
    shared_bytes: f64,
    shared_inodes: f64,
}

impl Count {
    fn add(&mut self, stat: &Stat) {
        let bytes = stat.st_blocks as u64 * 512;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink <= 1 {
            self.whole.bytes += bytes;
            self.whole.inodes += 1;
        } else {
            let names = stat.st_nlink as f64;
            self.shared_bytes += bytes as f64 / names;
            self.shared_inodes += 1.0 / names;
        }
    }

    fn total(&self) -> Usage {
        Usage {
            bytes: self.whole.bytes + self.shared_bytes.round() as u64,
            inodes: self.whole.inodes + self.shared_inodes.round() as u64,
        }
    }
}
