//! The directory that a layer grows in: finding and making the parents of its entries.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::OwnedFd,
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::{Directories, Failure, meta};
use crate::image::tar;

/// As long as the kernel lets a path be.
const PATH_LENGTH: usize = 4096;
const DEPTH: usize = 1024;
const SYMLINKS: usize = 40;
/// Steps through directories and links that are taken whatever the layer is, and for each of
/// its entries: hardly any honest one needs more than a few.
const STEPS: u64 = 20_000;
const STEPS_OF_ENTRY: u64 = 32;
/// Parents that are kept open.
const CACHED: usize = 128;

pub(super) struct Tree {
    root: Rc<OwnedFd>,
    cache: HashMap<Vec<u8>, Directory>,
    directories: Directories,
    path_bytes: usize,
    path_bytes_limit: usize,
    /// What is left of the work that paths may make.
    steps: u64,
    /// An entry, and not a whiteout, has made one of overlay's marks.
    pub(super) has_marks: bool,
    /// Something that the archive has was replaced by something that comes later.
    pub(super) has_replaced: bool,
}

/// An open directory of the layer and its path without any links.
#[derive(Clone)]
pub(super) struct Directory {
    pub(super) fd: Rc<OwnedFd>,
    pub(super) path: Rc<[u8]>,
}

impl Directory {
    pub(super) fn child_path(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { name.to_vec() } else { [&self.path, &b"/"[..], name].concat() }
    }
}

/// The components of an entry's path, without `.` and empty ones.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, Failure> {
    let refused =
        |reason: &str| Err(Failure::Refused { path: path.to_vec(), reason: reason.to_owned() });
    if path.len() >= PATH_LENGTH {
        return refused("the path is longer than 4095 bytes");
    }
    let Some(components) = tar::clean(path) else {
        return refused("the path leads out of the layer with ..");
    };
    if components.len() > DEPTH {
        return refused("the path is more than 1024 directories deep");
    }
    if components.iter().any(|component| component.len() > 255) {
        return refused("a name is longer than 255 bytes");
    }
    Ok(components)
}

pub(super) fn open_directory(at: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

pub(super) fn stat(at: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

impl Tree {
    pub(super) fn new(root: OwnedFd, path_bytes_limit: usize) -> Result<Self, Failure> {
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755)).map_err(write("prepare", b"/"))?;
        let directories = Directories::from([(Vec::new(), None)]);
        Ok(Self {
            root: Rc::new(root),
            cache: HashMap::new(),
            directories,
            path_bytes: 0,
            path_bytes_limit,
            steps: STEPS,
            has_marks: false,
            has_replaced: false,
        })
    }

    pub(super) fn root(&self) -> Directory {
        Directory { fd: self.root.clone(), path: Rc::from(&b""[..]) }
    }

    /// The directory that `components` name, which is made where it is missing.
    pub(super) fn directory(&mut self, components: &[&[u8]]) -> Result<Directory, Failure> {
        if components.is_empty() {
            return Ok(self.root());
        }
        let path = components.join(&b'/');
        if let Some(known) = self.cache.get(&path) {
            return Ok(known.clone());
        }
        let found = match self.open(&path) {
            Ok(fd) => Directory { fd: Rc::new(fd), path: Rc::from(path.as_slice()) },
            // Something is missing or is a link: take each step alone.
            Err(_) => self.walk(components, &path)?,
        };
        if self.cache.len() >= CACHED {
            self.cache.clear();
        }
        self.cache.insert(path, found.clone());
        Ok(found)
    }

    /// Walks from the root, follows links within it, and makes what is missing. A `..` in a
    /// link's target at the root stays there, as it would in a container.
    fn walk(&mut self, components: &[&[u8]], whole: &[u8]) -> Result<Directory, Failure> {
        let refused =
            |reason: &str| Failure::Refused { path: whole.to_vec(), reason: reason.to_owned() };
        let mut rest: VecDeque<Vec<u8>> = components.iter().map(|c| c.to_vec()).collect();
        let mut here = self.root();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            self.step()?;
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    here = self.parent(&here)?;
                    continue;
                }
                _ => {}
            }
            match open_directory(&here.fd, &name) {
                Ok(fd) => {
                    let path = Rc::from(here.child_path(&name));
                    here = Directory { fd: Rc::new(fd), path };
                }
                Err(Errno::NOENT) => here = self.make_implied(&here, &name)?,
                // With NOFOLLOW and DIRECTORY, a link is "not a directory" too.
                Err(Errno::NOTDIR | Errno::LOOP) => match self.obstacle(&here, &name)? {
                    Obstacle::Link(target) => {
                        links += 1;
                        if links > SYMLINKS {
                            return Err(refused("it leads through too many links"));
                        }
                        if target.starts_with(b"/") {
                            here = self.root();
                        }
                        for component in target.split(|b| *b == b'/').rev() {
                            rest.push_front(component.to_vec());
                        }
                    }
                    Obstacle::Whiteout => {
                        self.remove(&here, &name)?;
                        here = self.make_implied(&here, &name)?;
                        meta::set_opaque(&here.fd).map_err(write("mark as opaque", whole))?;
                    }
                    Obstacle::Other => {
                        return Err(refused("it lies beneath what is not a directory"));
                    }
                },
                Err(errno) => return Err(write("open", whole)(errno)),
            }
            if here.path.len() >= PATH_LENGTH || depth(&here.path) > DEPTH {
                return Err(refused("links make its path too long"));
            }
        }
        Ok(here)
    }

    /// The directory above one; that above the root is the root.
    fn parent(&self, directory: &Directory) -> Result<Directory, Failure> {
        let Some(slash) = directory.path.iter().rposition(|b| *b == b'/') else {
            return Ok(self.root());
        };
        let path = &directory.path[..slash];
        let fd = self.open(path).map_err(write("open", path))?;
        Ok(Directory { fd: Rc::new(fd), path: Rc::from(path) })
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// One more entry may have its work.
    pub(super) fn allow_entry(&mut self) {
        self.steps += STEPS_OF_ENTRY;
    }

    fn step(&mut self) -> Result<(), Failure> {
        self.steps = self.steps.checked_sub(1).ok_or(Failure::TooLarge(
            "a layer whose paths lead through so many links and directories",
        ))?;
        Ok(())
    }

    fn obstacle(&self, here: &Directory, name: &[u8]) -> Result<Obstacle, Failure> {
        let at = here.child_path(name);
        let Some(stat) = stat(&here.fd, name).map_err(write("look at", &at))? else {
            return Ok(Obstacle::Other);
        };
        if meta::is_whiteout(&stat) {
            return Ok(Obstacle::Whiteout);
        }
        match rustix::fs::readlinkat(&here.fd, name, Vec::new()) {
            Ok(target) => Ok(Obstacle::Link(target.into_bytes())),
            Err(Errno::INVAL) => Ok(Obstacle::Other),
            Err(errno) => Err(write("read link", &at)(errno)),
        }
    }

    fn make_implied(&mut self, here: &Directory, name: &[u8]) -> Result<Directory, Failure> {
        let path = here.child_path(name);
        let made = make_directory(here, name, &path)?;
        self.remember(&path, None)?;
        Ok(made)
    }

    /// Notes a directory that exists: listed with its time, or implied.
    pub(super) fn remember(
        &mut self,
        path: &[u8],
        modified: Option<(i64, u32)>,
    ) -> Result<(), Failure> {
        if self.directories.insert(path.to_vec(), modified).is_none() {
            self.path_bytes += path.len();
            if self.path_bytes > self.path_bytes_limit {
                return Err(Failure::TooLarge("a layer of so many and so long directory names"));
            }
        }
        Ok(())
    }

    /// Removes what an earlier entry of the same layer put there, of whatever kind.
    pub(super) fn remove(&mut self, parent: &Directory, name: &[u8]) -> Result<(), Failure> {
        let path = parent.child_path(name);
        let is_mark = matches!(stat(&parent.fd, name), Ok(Some(stat)) if meta::is_whiteout(&stat));
        self.has_replaced |= !is_mark || self.has_marks;
        match rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                meta::remove_tree(&parent.fd, name).map_err(|source| Failure::Write {
                    operation: "replace",
                    path: path.clone(),
                    source,
                })?;
                let start = [&path, &b"/"[..]].concat();
                let end = [&path, &b"0"[..]].concat();
                let beneath: Vec<Vec<u8>> =
                    self.directories.range(start..end).map(|(p, _)| p.clone()).collect();
                for gone in beneath.iter().chain([&path]) {
                    self.directories.remove(gone);
                    self.path_bytes -= gone.len();
                }
            }
            Err(errno) => return Err(write("replace", &path)(errno)),
        }
        // A cached parent may have led through it.
        self.cache.clear();
        Ok(())
    }

    /// Sets the times of all directories, which their entries have changed, and lists those
    /// that were implied.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<u8>>, Failure> {
        self.cache.clear();
        let mut implied = Vec::new();
        for (path, modified) in std::mem::take(&mut self.directories) {
            let Some(modified) = modified else {
                implied.push(path);
                continue;
            };
            let components: Vec<&[u8]> =
                path.split(|b| *b == b'/').filter(|c| !c.is_empty()).collect();
            let directory = self.directory(&components)?;
            meta::set_time(&directory.fd, modified).map_err(write("set the time of", &path))?;
        }
        Ok(implied)
    }
}

fn depth(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count() + 1
}

enum Obstacle {
    Link(Vec<u8>),
    Whiteout,
    Other,
}

pub(super) fn make_directory(
    parent: &Directory,
    name: &[u8],
    path: &[u8],
) -> Result<Directory, Failure> {
    rustix::fs::mkdirat(&parent.fd, name, Mode::from_raw_mode(0o755))
        .map_err(write("make", path))?;
    let fd = open_directory(&parent.fd, name).map_err(write("open", path))?;
    // The mode that the process's mask let through, made what it should be.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(write("set the mode of", path))?;
    Ok(Directory { fd: Rc::new(fd), path: Rc::from(path) })
}

/// Turns an error number into a failure that says what was attempted.
pub(super) fn write<'a>(operation: &'static str, path: &'a [u8]) -> impl Fn(Errno) -> Failure + 'a {
    move |errno| Failure::Write { operation, path: path.to_vec(), source: errno.into() }
}
