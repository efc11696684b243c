//! The archive, made again.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::{fd::OwnedFd, unix::fs::FileExt},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use zstd::stream::read::Decoder;

use super::{CONTENT, MAGIC, PATH_LIMIT, VERBATIM};

/// Where the files of a layer are: beneath its root, some of them moved since.
pub(in crate::image) struct Place {
    pub(in crate::image) root: OwnedFd,
    /// Directories that were moved, from and to.
    pub(in crate::image) moves: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Place {
    /// Where a path of the archive is now.
    pub(super) fn now(&self, path: &[u8]) -> Vec<u8> {
        let beneath = |from: &[u8]| {
            path.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let moved = self.moves.iter().filter_map(|(from, to)| Some((from, to, beneath(from)?)));
        match moved.max_by_key(|(from, _, _)| from.len()) {
            Some((_, to, rest)) => [to, rest].concat(),
            None => path.to_vec(),
        }
    }

    pub(super) fn open(&self, path: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let open =
            |path: &[u8]| rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve);
        // What the layer had in the way kept some files where they were.
        let opened = match open(&self.now(path)) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => open(path),
            opened => opened,
        };
        let file = opened.map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => broken(path, "it is not there"),
            errno => io::Error::from(errno),
        })?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(broken(path, "it is no file any more"));
        }
        Ok(File::from(file))
    }
}

/// What a layer's file is not any more.
pub(super) fn broken(path: &[u8], what: &str) -> io::Error {
    let text = format!("{}: {what}", String::from_utf8_lossy(path));
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// One piece of the archive.
pub(super) enum Item {
    Verbatim { length: u64 },
    Content { path: Vec<u8>, offset: u64, length: u64 },
}

/// The items of a recipe. What is verbatim is to be read before the next item.
pub(in crate::image) struct Items {
    input: Decoder<'static, BufReader<File>>,
}

impl Items {
    pub(in crate::image) fn open(recipe: File) -> io::Result<Self> {
        let mut input = Decoder::new(recipe)?;
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged());
        }
        Ok(Self { input })
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        let mut tag = [0];
        if self.input.read(&mut tag)? == 0 {
            return Ok(None);
        }
        let length = self.number::<4>()?;
        match tag[0] {
            VERBATIM => Ok(Some(Item::Verbatim { length })),
            CONTENT if length as usize <= PATH_LIMIT => {
                let mut path = vec![0; length as usize];
                self.input.read_exact(&mut path)?;
                let (offset, length) = (self.number::<8>()?, self.number::<8>()?);
                Ok(Some(Item::Content { path, offset, length }))
            }
            _ => Err(damaged()),
        }
    }

    pub(super) fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(damaged()) }
    }

    /// Bytes of the archive. Reads the recipe to its end.
    pub(in crate::image) fn archive_size(mut self) -> io::Result<u64> {
        let mut size = 0;
        while let Some(item) = self.next()? {
            match item {
                Item::Verbatim { length } => {
                    self.skip(length)?;
                    size += length;
                }
                Item::Content { length, .. } => size += length,
            }
        }
        Ok(size)
    }

    fn number<const N: usize>(&mut self) -> io::Result<u64> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the layer's recipe is damaged")
}

/// The archive of a layer as a stream. Whether it is the right one, its digest says.
pub(in crate::image) struct Rebuilt<'a> {
    place: &'a Place,
    items: Items,
    verbatim: u64,
    content: Option<Content>,
}

struct Content {
    file: File,
    path: Vec<u8>,
    offset: u64,
    left: u64,
}

impl<'a> Rebuilt<'a> {
    pub(in crate::image) fn open(recipe: File, place: &'a Place) -> io::Result<Self> {
        Ok(Self { place, items: Items::open(recipe)?, verbatim: 0, content: None })
    }

    /// Goes on to the next item that has bytes; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while self.verbatim == 0 && self.content.is_none() {
            match self.items.next()? {
                None => return Ok(false),
                Some(Item::Verbatim { length }) => self.verbatim = length,
                Some(Item::Content { length: 0, .. }) => {}
                Some(Item::Content { path, offset, length }) => {
                    let file = self.place.open(&path)?;
                    self.content = Some(Content { file, path, offset, left: length });
                }
            }
        }
        Ok(true)
    }
}

impl Read for Rebuilt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.advance()? {
            return Ok(0);
        }
        let Some(content) = &mut self.content else {
            let length = self.items.input.by_ref().take(self.verbatim).read(buffer)?;
            if length == 0 {
                return Err(damaged());
            }
            self.verbatim -= length as u64;
            return Ok(length);
        };
        let wanted = usize::try_from(content.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = content.file.read_at(&mut buffer[..wanted], content.offset)?;
        if length == 0 {
            return Err(broken(&content.path, "it is shorter than it was"));
        }
        content.offset += length as u64;
        content.left -= length as u64;
        if content.left == 0 {
            self.content = None;
        }
        Ok(length)
    }
}
