//! Looks into a stack of layers as overlay would show it, without mounting anything.
//! Every step opens one name without following it, so nothing outside can be reached.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::unpack::{is_opaque, is_whiteout};

const SYMLINKS: usize = 40;
const DEPTH: usize = 256;
/// Looks at names that one stack allows, and more for each path that is asked for: images with
/// hundreds of layers and of links are allowed hundreds of thousands of looks, and no more.
const LOOKS: u64 = 2_000_000;
const LOOKS_OF_PATH: u64 = 1000;
/// Directories that are kept open.
const KEPT: usize = 4;

/// The layers, the top one first.
pub(super) struct Stack {
    root: Merged,
    /// What is left of the work that paths may make.
    looks: Cell<u64>,
    /// The directories that were found last, since paths are mostly asked for in their order.
    last: RefCell<VecDeque<(Vec<u8>, Merged)>>,
}

/// One directory as the layers together show it: its parts, the top one first.
#[derive(Clone, Default)]
struct Merged {
    parts: Vec<Arc<OwnedFd>>,
}

enum Child {
    Directory(Merged),
    Symlink(Vec<u8>),
    Other { parent: Arc<OwnedFd>, kind: FileType },
}

impl Stack {
    pub(super) fn open(directories: &[PathBuf]) -> io::Result<Self> {
        let mut root = Merged::default();
        for directory in directories {
            let fd = rustix::fs::open(directory, directory_flags(), Mode::empty())?;
            if root.push(fd) {
                break;
            }
        }
        Ok(Self { root, looks: Cell::new(LOOKS), last: RefCell::default() })
    }

    /// Owner and mode of a directory of that very path; links are not followed.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        match self.straight(path)? {
            Straight::Directory(here) => {
                here.parts.first().map(|part| Ok(rustix::fs::fstat(part)?)).transpose()
            }
            Straight::Link | Straight::Nothing => Ok(None),
        }
    }

    /// Where a link of that very path leads, if it is one and leads to a directory.
    pub(super) fn link(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self.straight(path)? {
            Straight::Link => match self.walk(path).unwrap_or(End::Missing) {
                End::Directory(real) => Ok(Some(real)),
                _ => Ok(None),
            },
            Straight::Directory(_) | Straight::Nothing => Ok(None),
        }
    }

    /// Walks down a path without following anything.
    fn straight(&self, path: &[u8]) -> io::Result<Straight> {
        self.looks.set(self.looks.get() + LOOKS_OF_PATH);
        let (mut here, mut done) = self.nearest(path);
        while done < path.len() {
            let start = done + usize::from(done > 0);
            let end =
                path[start..].iter().position(|b| *b == b'/').map_or(path.len(), |n| start + n);
            match self.child(&here, &path[start..end])? {
                Some(Child::Directory(next)) => here = next,
                Some(Child::Symlink(_)) => return Ok(Straight::Link),
                _ => return Ok(Straight::Nothing),
            }
            done = end;
            self.keep(&path[..end], &here);
        }
        Ok(Straight::Directory(here))
    }

    /// The deepest directory on the way that was found before, and how much of the path it is.
    fn nearest(&self, path: &[u8]) -> (Merged, usize) {
        let last = self.last.borrow();
        let is_above = |known: &[u8]| {
            path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let known = last.iter().filter(|(known, _)| is_above(known));
        match known.max_by_key(|(known, _)| known.len()) {
            Some((known, merged)) => (merged.clone(), known.len()),
            None => (self.root.clone(), 0),
        }
    }

    fn keep(&self, path: &[u8], merged: &Merged) {
        let mut last = self.last.borrow_mut();
        last.push_front((path.to_vec(), merged.clone()));
        last.truncate(KEPT);
    }

    fn child(&self, here: &Merged, name: &[u8]) -> io::Result<Option<Child>> {
        match self.looks.get().checked_sub(here.parts.len() as u64) {
            Some(left) => self.looks.set(left),
            None => return wrong("its paths lead through too many links and directories"),
        }
        here.child(name)
    }

    /// Whether there is anything at a path, through links that stay within the stack.
    pub(super) fn has(&self, path: &Path) -> io::Result<bool> {
        use std::os::unix::ffi::OsStrExt;
        Ok(!matches!(self.walk(path.as_os_str().as_bytes())?, End::Missing))
    }

    /// Opens a regular file for reading, through links that stay within the stack as they
    /// would in a container. Nothing when it is not there.
    pub(super) fn file(&self, path: &Path) -> io::Result<Option<File>> {
        use std::os::unix::ffi::OsStrExt;
        let (parent, name) = match self.walk(path.as_os_str().as_bytes())? {
            End::Missing => return Ok(None),
            End::Other { parent, name, kind: FileType::RegularFile } => (parent, name),
            _ => return wrong("it is not a regular file"),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&parent, &name, flags, Mode::empty())?);
        Ok(Some(file).filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file())))
    }

    fn walk(&self, path: &[u8]) -> io::Result<End> {
        let split = |path: &[u8]| -> VecDeque<Vec<u8>> {
            let names = path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b"."));
            names.map(<[u8]>::to_vec).collect()
        };
        let mut rest = split(path);
        let mut trail: Vec<(Vec<u8>, Merged)> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                trail.pop();
                continue;
            }
            let here = trail.last().map_or(&self.root, |(_, here)| here);
            match self.child(here, &name)? {
                None => return Ok(End::Missing),
                Some(Child::Directory(next)) => trail.push((name, next)),
                Some(Child::Symlink(target)) => {
                    links += 1;
                    if links > SYMLINKS {
                        return wrong("it leads through too many links");
                    }
                    if target.starts_with(b"/") {
                        trail.clear();
                    }
                    let mut longer = split(&target);
                    longer.append(&mut rest);
                    rest = longer;
                }
                Some(Child::Other { .. }) if !rest.is_empty() => return Ok(End::Missing),
                Some(Child::Other { parent, kind }) => {
                    return Ok(End::Other { parent, name, kind });
                }
            }
            if trail.len() > DEPTH {
                return wrong("links make its path too long");
            }
        }
        let names: Vec<Vec<u8>> = trail.into_iter().map(|(name, _)| name).collect();
        Ok(End::Directory(names.join(&b'/')))
    }
}

/// What a path is, as it is written.
enum Straight {
    Directory(Merged),
    /// It leads through a link, or is one.
    Link,
    Nothing,
}

/// What a path leads to.
enum End {
    Missing,
    /// Its path without any links.
    Directory(Vec<u8>),
    Other {
        parent: Arc<OwnedFd>,
        name: Vec<u8>,
        kind: FileType,
    },
}

fn wrong<T>(text: &'static str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

impl Merged {
    /// Adds a part from further below; says whether it hides all that lie deeper.
    fn push(&mut self, fd: OwnedFd) -> bool {
        let hides = is_opaque(&fd);
        self.parts.push(Arc::new(fd));
        hides
    }

    fn child(&self, name: &[u8]) -> io::Result<Option<Child>> {
        let mut found = Merged::default();
        for part in &self.parts {
            let stat = match rustix::fs::statat(part, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                if found.push(rustix::fs::openat(part, name, directory_flags(), Mode::empty())?) {
                    break;
                }
                continue;
            }
            if !found.parts.is_empty() || is_whiteout(&stat) {
                break;
            }
            if kind == FileType::Symlink {
                let target = rustix::fs::readlinkat(part, name, Vec::new())?;
                return Ok(Some(Child::Symlink(target.into_bytes())));
            }
            return Ok(Some(Child::Other { parent: part.clone(), kind }));
        }
        Ok((!found.parts.is_empty()).then_some(Child::Directory(found)))
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}
