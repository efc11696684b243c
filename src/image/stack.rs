//! Looks into a stack of layers as overlay would show it, without mounting anything.
//! Every step opens one name without following it, so nothing outside can be reached.

use std::{
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

/// The layers, the top one first.
pub(super) struct Stack {
    root: Merged,
}

/// One directory as the layers together show it: its parts, the top one first.
#[derive(Clone, Default)]
struct Merged {
    parts: Vec<Arc<OwnedFd>>,
}

enum Child {
    Directory(Merged),
    Symlink(Vec<u8>),
    Other { parent: Arc<OwnedFd>, stat: Box<Stat> },
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
        Ok(Self { root })
    }

    /// Owner and mode of a directory of that very path; links are not followed.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        let mut here = self.root.clone();
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            match here.child(name)? {
                Some(Child::Directory(next)) => here = next,
                _ => return Ok(None),
            }
        }
        here.parts.first().map(|part| Ok(rustix::fs::fstat(part)?)).transpose()
    }

    /// Opens a regular file for reading, through links that stay within the stack as they
    /// would in a container. Nothing when it is not there.
    pub(super) fn file(&self, path: &Path) -> io::Result<Option<File>> {
        use std::os::unix::ffi::OsStrExt;
        let wrong = |text| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        let split =
            |path: &[u8]| path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut rest: VecDeque<Vec<u8>> = split(path.as_os_str().as_bytes()).into();
        let mut trail: Vec<Merged> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    trail.pop();
                    continue;
                }
                _ => {}
            }
            let here = trail.last().unwrap_or(&self.root);
            match here.child(&name)? {
                None => return Ok(None),
                Some(Child::Directory(next)) => trail.push(next),
                Some(Child::Symlink(target)) => {
                    links += 1;
                    if links > SYMLINKS {
                        return wrong("it leads through too many links");
                    }
                    if target.starts_with(b"/") {
                        trail.clear();
                    }
                    split(&target).into_iter().rev().for_each(|name| rest.push_front(name));
                }
                Some(Child::Other { parent, stat }) => {
                    if rest.iter().any(|name| !matches!(name.as_slice(), b"" | b".")) {
                        return Ok(None);
                    }
                    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                        return wrong("it is not a regular file");
                    }
                    let flags =
                        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let file =
                        File::from(rustix::fs::openat(&parent, &name, flags, Mode::empty())?);
                    return Ok(Some(file).filter(|file| file.metadata().is_ok_and(|m| m.is_file())));
                }
            }
            if trail.len() > DEPTH {
                return wrong("links make its path too long");
            }
        }
        wrong("it is not a regular file")
    }
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
            return Ok(Some(Child::Other { parent: part.clone(), stat: Box::new(stat) }));
        }
        Ok((!found.parts.is_empty()).then_some(Child::Directory(found)))
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}
