//! One entry of the archive becomes one file, or one of overlay's marks.

use std::{io::BufRead, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, makedev},
    io::Errno,
};

use super::{
    BLOCK, Failure, Unpacker, meta,
    tree::{self, Directory, components, make_directory, write},
};
use crate::image::{
    recipe::Recorder,
    tar::{Entry, Kind, Reader, Segment},
};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that AUFS kept for itself.
const RESERVED: &[u8] = b".wh..wh.";

impl Unpacker {
    pub(super) fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<Recorder<R>>,
    ) -> Result<(), Failure> {
        let path = components(&entry.path)?;
        self.tree.allow_entry();
        let Some((name, parents)) = path.split_last() else { return self.root(entry) };
        if *name == OPAQUE {
            let directory = self.tree.directory(parents)?;
            return meta::set_opaque(&directory.fd).map_err(write("mark as opaque", &entry.path));
        }
        if name.starts_with(RESERVED) {
            return Ok(());
        }
        let parent = self.tree.directory(parents)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&parent, hidden, entry);
        }
        self.inodes += 1;
        match entry.kind {
            Kind::Directory => self.directory(&parent, name, entry),
            Kind::File => self.file(&parent, name, entry, reader),
            Kind::HardLink => self.hard_link(&parent, name, entry),
            Kind::Symlink => self.symlink(&parent, name, entry),
            Kind::CharacterDevice => self.node(&parent, name, entry, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(&parent, name, entry, FileType::BlockDevice),
            Kind::Fifo => self.node(&parent, name, entry, FileType::Fifo),
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<(), Failure> {
        if entry.kind != Kind::Directory {
            return Err(refused(entry, "the root is not a directory"));
        }
        let root = self.tree.root();
        meta::apply(&root.fd, entry).map_err(write("set up", &entry.path))?;
        self.tree.remember(b"", Some(entry.modified))
    }

    /// Hides `name` of the layers below. What this layer itself has of that name stays.
    fn whiteout(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<(), Failure> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(refused(entry, "the whiteout hides no name"));
        }
        match meta::make_whiteout(&parent.fd, name) {
            Ok(()) => {
                self.inodes += 1;
                Ok(())
            }
            Err(Errno::EXIST) => match tree::open_directory(&parent.fd, name) {
                Ok(fd) => meta::set_opaque(&fd).map_err(write("mark as opaque", &entry.path)),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(write("open", &entry.path)(errno)),
            },
            Err(errno) => Err(write("make the whiteout", &entry.path)(errno)),
        }
    }

    fn directory(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<(), Failure> {
        let path = parent.child_path(name);
        let existing = tree::stat(&parent.fd, name).map_err(write("look at", &path))?;
        let is_directory = existing
            .as_ref()
            .is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
        let was_whiteout = existing.as_ref().is_some_and(meta::is_whiteout);
        let directory = if is_directory {
            let fd = tree::open_directory(&parent.fd, name).map_err(write("open", &path))?;
            Directory { fd: fd.into(), path: path.as_slice().into() }
        } else {
            if existing.is_some() {
                self.tree.remove(parent, name)?;
            }
            self.size += BLOCK;
            make_directory(parent, name, &path)?
        };
        if was_whiteout {
            meta::set_opaque(&directory.fd).map_err(write("mark as opaque", &path))?;
        }
        meta::apply(&directory.fd, entry).map_err(write("set up", &path))?;
        self.tree.remember(&path, Some(entry.modified))
    }

    fn file<R: BufRead>(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        reader: &mut Reader<Recorder<R>>,
    ) -> Result<(), Failure> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = self.replacing(parent, name, "make", |parent, name| {
            rustix::fs::openat(parent, name, flags, mode)
        })?;
        let path = parent.child_path(name);
        let whole = [Segment { offset: 0, length: entry.size }];
        for segment in entry.segments.as_deref().unwrap_or(&whole) {
            reader.input().content(&path, segment.offset, segment.length);
            copy(&file, reader, entry, segment)?;
            self.size += segment.length.next_multiple_of(BLOCK);
        }
        if entry.segments.is_some() {
            rustix::fs::ftruncate(&file, entry.size).map_err(write("extend", &entry.path))?;
        }
        meta::apply(&file, entry).map_err(write("set up", &entry.path))?;
        meta::set_time(&file, entry.modified).map_err(write("set the time of", &entry.path))
    }

    /// Links to a file of the same layer; neither path can leave it. What the entry says of
    /// owner, mode and time goes for the file, as with the other runtimes.
    fn hard_link(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<(), Failure> {
        let target = components(&entry.link)
            .map_err(|_| refused(entry, "it links to an impossible path"))?;
        let Some((target_name, target_parents)) = target.split_last() else {
            return Err(refused(entry, "it links to the root"));
        };
        let target_parent = self.tree.directory(target_parents)?;
        let found =
            tree::stat(&target_parent.fd, target_name).map_err(write("look at", &entry.link))?;
        let Some(found) = found.filter(|stat| !meta::is_whiteout(stat)) else {
            return Err(refused(entry, "it links to what its layer does not have"));
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(refused(entry, "it links to a directory"));
        }
        let same =
            |stat: &rustix::fs::Stat| (stat.st_dev, stat.st_ino) == (found.st_dev, found.st_ino);
        if tree::stat(&parent.fd, name)
            .map_err(write("look at", &entry.path))?
            .as_ref()
            .is_some_and(same)
        {
            return Ok(());
        }
        self.inodes -= 1;
        self.replacing(parent, name, "link", |parent, name| {
            rustix::fs::linkat(&target_parent.fd, *target_name, parent, name, AtFlags::empty())
        })?;
        let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
        meta::apply_at(&parent.fd, name, entry, is_link).map_err(write("set up", &entry.path))
    }

    fn symlink(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<(), Failure> {
        if entry.link.is_empty() {
            return Err(refused(entry, "the link has no target"));
        }
        self.replacing(parent, name, "make", |parent, name| {
            rustix::fs::symlinkat(&entry.link[..], parent, name)
        })?;
        meta::apply_at(&parent.fd, name, entry, true).map_err(write("set up", &entry.path))
    }

    fn node(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        kind: FileType,
    ) -> Result<(), Failure> {
        let (major, minor) = entry.device;
        // An image that was made of overlay's own directories: it hides a name, as it did there.
        self.tree.has_marks |= kind == FileType::CharacterDevice && entry.device == (0, 0);
        self.replacing(parent, name, "make", |parent, name| {
            rustix::fs::mknodat(
                parent,
                name,
                kind,
                Mode::from_raw_mode(0o600),
                makedev(major, minor),
            )
        })?;
        meta::apply_at(&parent.fd, name, entry, false).map_err(write("set up", &entry.path))
    }

    /// Makes something that must not exist; what does exist gives way, once.
    fn replacing<T>(
        &mut self,
        parent: &Directory,
        name: &[u8],
        operation: &'static str,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Failure> {
        let result = match make(&parent.fd, name) {
            Err(Errno::EXIST) => {
                self.tree.remove(parent, name)?;
                make(&parent.fd, name)
            }
            other => other,
        };
        result.map_err(|errno| write(operation, &parent.child_path(name))(errno))
    }
}

fn refused(entry: &Entry, reason: &str) -> Failure {
    Failure::Refused { path: entry.path.clone(), reason: reason.to_owned() }
}

/// Writes the entry's next data where the segment says.
fn copy<R: BufRead>(
    file: &OwnedFd,
    reader: &mut Reader<R>,
    entry: &Entry,
    segment: &Segment,
) -> Result<(), Failure> {
    let mut offset = segment.offset;
    let end = offset + segment.length;
    while offset < end {
        let piece = reader.data()?;
        if piece.is_empty() {
            return Err(Failure::Malformed("a file is shorter than it says".to_owned()));
        }
        let wanted = piece.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        let written = match rustix::io::pwrite(file, &piece[..wanted], offset) {
            Err(Errno::INTR) => continue,
            result => result.map_err(write("write", &entry.path))?,
        };
        reader.consume(written);
        offset += written as u64;
    }
    Ok(())
}
