//! Removal of a tree.

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, chmodat, fchmod, ioctl_getflags,
        ioctl_setflags, openat, renameat, unlinkat,
    },
    io::Errno,
};

use super::{MOST_OPEN, absent, is_dots, open_directory};

/// How often a directory is read from its beginning while entries of it can be removed: some
/// filesystems leave out entries when others go, and somebody may still be writing.
const MOST_PASSES: u32 = 16;

/// Removes what has this name in a directory: a file, or a directory with all that is in it.
/// What is not there is removed already. Goes on past what cannot be removed.
///
/// # Errors
/// Why the first thing that is left is left: `EXDEV` or `EBUSY` where something is mounted on
/// it. A name that is a path.
pub fn remove(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let mut components = name.components();
    let (Some(Component::Normal(name)), None) = (components.next(), components.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not one name"));
    };
    let name = CString::new(name.as_bytes())?;
    match unlink(parent, &name) {
        Err(Errno::ISDIR) => Removal::of(parent, name).run(),
        result => Ok(result?),
    }
}

/// The same for a path whose parents are trusted.
///
/// # Errors
/// Those of [`remove`], and of opening the parent.
pub fn remove_at(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no last name"));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => Ok(()),
        parent => remove(parent?.as_fd(), Path::new(name)),
    }
}

/// A directory that is being emptied.
struct Level {
    name: CString,
    dir: Dir,
    /// Whether something of it went since it was read from its beginning.
    progress: bool,
    passes: u32,
}

/// The way from the tree's root to where the removal is. A directory that lies too deep is
/// moved into the root, to be emptied when all the others are.
struct Removal<'fd> {
    parent: BorrowedFd<'fd>,
    levels: Vec<Level>,
    /// Numbers of directories that were moved, and of those of them that were emptied.
    moved: u64,
    emptied: u64,
    first_error: Option<io::Error>,
}

impl<'fd> Removal<'fd> {
    fn of(parent: BorrowedFd<'fd>, name: CString) -> Self {
        let mut removal =
            Self { parent, levels: Vec::new(), moved: 0, emptied: 0, first_error: None };
        removal.enter(name);
        removal
    }

    fn run(mut self) -> io::Result<()> {
        while let Some(level) = self.levels.last_mut() {
            match level.dir.read() {
                Some(Ok(entry)) if is_dots(entry.file_name()) => {}
                Some(Ok(entry)) => {
                    self.take(entry.file_name().to_owned(), entry.file_type());
                }
                Some(Err(error)) => {
                    self.note(error.into());
                    self.leave();
                }
                None => self.leave(),
            }
        }
        self.first_error.map_or(Ok(()), Err)
    }

    /// The directory that the removal is in; the given one where it is in none.
    fn here(&self) -> BorrowedFd<'_> {
        let open = self.levels.last().and_then(|level| level.dir.fd().ok());
        open.unwrap_or(self.parent)
    }

    fn take(&mut self, name: CString, kind: FileType) {
        if kind == FileType::Directory {
            return self.enter(name);
        }
        match unlink(self.here(), &name) {
            Ok(()) => self.went(),
            Err(Errno::ISDIR) => self.enter(name),
            Err(error) => self.note(error.into()),
        }
    }

    fn enter(&mut self, name: CString) {
        if self.levels.len() == MOST_OPEN {
            return self.move_up(&name);
        }
        let here = self.here();
        let opened = match open_directory(here, &name) {
            Err(Errno::ACCESS) => {
                open_up(here, &name);
                open_directory(here, &name)
            }
            opened => opened,
        };
        match opened.and_then(Dir::new) {
            Ok(dir) => self.levels.push(Level { name, dir, progress: false, passes: 1 }),
            Err(Errno::NOENT) => self.went(),
            // It was a directory when it was read.
            Err(Errno::NOTDIR | Errno::LOOP) => match unlink(here, &name) {
                Ok(()) => self.went(),
                Err(error) => self.note(error.into()),
            },
            Err(error) => self.note(error.into()),
        }
    }

    fn move_up(&mut self, name: &CStr) {
        let Some(root) = self.levels.first().and_then(|level| level.dir.fd().ok()) else { return };
        let here = self.here();
        let mut number = self.moved;
        let moved = loop {
            let shorter = deep_name(number);
            number += 1;
            let rename = || renameat(here, name, root, &shorter);
            match loosened(here, name, || loosened(root, name, rename)) {
                // The next number is free, or the one after.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                moved => break moved,
            }
        };
        self.moved = number;
        match moved {
            Ok(()) | Err(Errno::NOENT) => self.went(),
            Err(error) => self.note(error.into()),
        }
    }

    /// A directory has been read to its end.
    fn leave(&mut self) {
        if self.levels.len() == 1 && self.emptied < self.moved {
            self.emptied += 1;
            return self.enter(deep_name(self.emptied - 1));
        }
        let Some(mut level) = self.levels.pop() else { return };
        let here = self.here();
        match loosened(here, &level.name, || unlinkat(here, &level.name, AtFlags::REMOVEDIR)) {
            Ok(()) | Err(Errno::NOENT) => self.went(),
            Err(Errno::NOTEMPTY) if level.progress && level.passes < MOST_PASSES => {
                level.passes += 1;
                level.progress = false;
                level.dir.rewind();
                self.levels.push(level);
            }
            Err(error) => self.note(error.into()),
        }
    }

    fn went(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.progress = true;
        }
    }

    fn note(&mut self, error: io::Error) {
        if !absent(&error) {
            self.first_error.get_or_insert(error);
        }
    }
}

fn deep_name(number: u64) -> CString {
    CString::new(format!(".deep-{number}")).unwrap_or_default()
}

/// Removes what is no directory; what is not there is removed.
fn unlink(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    match loosened(parent, name, || unlinkat(parent, name, AtFlags::empty())) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Does a step; where the kernel forbids it, it is tried again without what can forbid it:
/// a directory's mode, and the attributes of `chattr(1)`.
fn loosened(
    parent: BorrowedFd<'_>,
    name: &CStr,
    step: impl Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match step() {
        Err(Errno::ACCESS | Errno::PERM) => {
            // Where this does not help, the second try says why.
            clear_attributes(parent);
            let _ = fchmod(parent, Mode::RWXU);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            let named = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
            let kind = named.map(|stat| FileType::from_raw_mode(stat.st_mode));
            if matches!(kind, Ok(FileType::RegularFile | FileType::Directory))
                && let Ok(file) = openat(parent, name, flags | OFlags::CLOEXEC, Mode::empty())
            {
                clear_attributes(file.as_fd());
            }
            step()
        }
        result => result,
    }
}

fn clear_attributes(file: BorrowedFd<'_>) {
    let forbidding = IFlags::IMMUTABLE | IFlags::APPEND;
    if let Ok(flags) = ioctl_getflags(file)
        && flags.intersects(forbidding)
    {
        let _ = ioctl_setflags(file, flags - forbidding);
    }
}

/// Lets the owner into a directory, and changes nothing that a link names.
fn open_up(parent: BorrowedFd<'_>, name: &CStr) {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(directory) = openat(parent, name, flags, Mode::empty()) {
        let itself = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let _ = chmodat(CWD, itself, Mode::RWXU, AtFlags::empty());
    }
}
