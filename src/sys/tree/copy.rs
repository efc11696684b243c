//! A copy of a tree that nobody changes meanwhile.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
        XattrFlags, chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, flistxattr_query,
        fsetxattr, fstat, ftruncate, futimens, linkat, mkdirat, mknodat, openat, readlinkat, seek,
        sendfile, statat, symlinkat, utimensat,
    },
    io::Errno,
};

use super::{MOST_OPEN, is_dots, open_directory};

/// The longest value of an attribute that the kernel has (`XATTR_SIZE_MAX`).
const LONGEST_ATTRIBUTE: usize = 65536;

/// Copies all that is in the directory `from` into `to`, and gives `to` the owner, mode, times
/// and attributes of `from`. Holes stay holes, and names of one file stay that: `links` is an
/// empty directory on the mount of `to` that remembers them, and is to be removed afterwards.
/// Sockets, devices and pipes are made anew, where the caller may; of attributes those are kept that an image can
/// have: file capabilities, access lists and users' own.
///
/// # Errors
/// What the kernel refuses; `EXDEV` where something is mounted inside.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, links: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = openat(to, c".", flags, Mode::empty())?;
    let mut copying = Copying { levels: Vec::new() };
    copying.enter(openat(from, c".", flags, Mode::empty())?, own)?;
    while let Some(level) = copying.levels.last_mut() {
        let (Some(dir), Some(to)) = (&mut level.from, &level.to) else { break };
        match dir.read() {
            None => copying.leave()?,
            Some(entry) => {
                let entry = entry?;
                level.offset = entry.offset();
                let name = entry.file_name();
                if is_dots(name) {
                    continue;
                }
                let stat = statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    let inner = open_directory(dir.fd()?, name)?;
                    mkdirat(to, name, Mode::RWXU)?;
                    let copy = open_directory(to, name)?;
                    copying.enter(inner, copy)?;
                } else {
                    copy_entry(dir.fd()?, to.as_fd(), name, &stat, links)?;
                }
            }
        }
    }
    Ok(())
}

/// A directory and its copy. Both are open only while they are near to where the walk is;
/// nobody moves them, so that `..` leads back to them.
struct Level {
    from: Option<Dir>,
    to: Option<OwnedFd>,
    offset: i64,
}

struct Copying {
    levels: Vec<Level>,
}

impl Copying {
    fn enter(&mut self, from: OwnedFd, to: OwnedFd) -> io::Result<()> {
        self.levels.push(Level { from: Some(Dir::new(from)?), to: Some(to), offset: 0 });
        if let Some(far) = self.levels.len().checked_sub(MOST_OPEN + 1) {
            (self.levels[far].from, self.levels[far].to) = (None, None);
        }
        Ok(())
    }

    /// Gives a directory its attributes, now that nothing will be made in it any more, and
    /// returns to the one above.
    fn leave(&mut self) -> io::Result<()> {
        let Some(Level { from: Some(from), to: Some(to), .. }) = self.levels.pop() else {
            return Ok(());
        };
        let stat = fstat(from.fd()?)?;
        apply(from.fd()?, &to, &stat)?;
        let Some(above) = self.levels.last_mut().filter(|above| above.from.is_none()) else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir = Dir::new(openat(from.fd()?, c"..", flags, Mode::empty())?)?;
        dir.seek(above.offset)?;
        above.from = Some(dir);
        above.to = Some(openat(&to, c"..", flags, Mode::empty())?);
        Ok(())
    }
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    links: BorrowedFd<'_>,
) -> io::Result<()> {
    let has_other_names = stat.st_nlink > 1;
    let known = CString::new(format!("{:x}-{:x}", stat.st_dev, stat.st_ino))?;
    if has_other_names {
        match linkat(links, &known, to, name, AtFlags::empty()) {
            Err(Errno::NOENT) => {}
            linked => return Ok(linked?),
        }
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => copy_file(from, to, name, stat)?,
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            apply_at(to, name, stat)?;
        }
        kind => {
            match mknodat(to, name, kind, Mode::empty(), stat.st_rdev) {
                // A device, by the root of a user namespace, who could not open it either.
                Err(Errno::PERM) => return Ok(()),
                made => made?,
            }
            apply_at(to, name, stat)?;
        }
    }
    if has_other_names {
        linkat(to, name, links, &known, AtFlags::empty())?;
    }
    Ok(())
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    let size = stat.st_size as u64;
    let mut position = 0;
    while position < size {
        let (data, hole) = match seek(&source, SeekFrom::Data(position)) {
            Ok(data) => (data, seek(&source, SeekFrom::Hole(data))?),
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        seek(&target, SeekFrom::Start(data))?;
        position = data;
        while position < hole {
            let count = usize::try_from(hole - position).unwrap_or(usize::MAX);
            if sendfile(&target, &source, Some(&mut position), count)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    ftruncate(&target, size)?;
    apply(source.as_fd(), &target, stat)
}

/// Owner, then mode, then attributes: a change of owner takes set-id bits and file capabilities
/// away. Then the times, which all of this changes.
fn apply(from: BorrowedFd<'_>, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_attributes(from, to.as_fd())?;
    Ok(futimens(to, &times(stat))?)
}

/// The same for what cannot be opened. The name was just made, and is nobody else's.
fn apply_at(parent: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        chmodat(parent, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    Ok(utimensat(parent, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

#[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between machines")]
fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime as i64, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
    }
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = match flistxattr_query(from) {
        // Most files have none.
        Ok(0) | Err(Errno::NOTSUP) => return Ok(()),
        length => vec![0; length?],
    };
    let length = flistxattr(from, names.as_mut_slice())?;
    let mut value = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        value.resize(LONGEST_ATTRIBUTE, 0);
        let length = fgetxattr(from, name, value.as_mut_slice())?;
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // A file system without such attributes.
            Err(Errno::NOTSUP) => {}
            set => set?,
        }
    }
    Ok(())
}

/// What the unpacking of layers lets in.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
        || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}
