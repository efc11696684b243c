//! Whether a layer on disk still is what was unpacked.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::{
    Place, Rebuilt,
    rebuilt::{Item, Items, broken},
};
use crate::image::{
    Digest,
    digest::{Hasher, Hashing},
    tar::{self, Entry, Kind},
};

const BUFFER: usize = 256 << 10;

/// What a check found.
#[derive(Debug)]
pub(in crate::image) enum Broken {
    /// The layer is not what it was.
    Layer(String),
    /// The disk could not be read, which says nothing about the layer.
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Layer(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl From<tar::Error> for Broken {
    fn from(error: tar::Error) -> Self {
        match error {
            tar::Error::Io(error) => error.into(),
            other => Self::Layer(other.to_string()),
        }
    }
}

/// Looks whether every file that has content is there and as long as it was. Reads no
/// content: this finds what a power cut does to files, and costs one look at each.
pub(in crate::image) fn check_sizes(recipe: File, place: &Place) -> Result<(), Broken> {
    let mut items = Items::open(recipe)?;
    while let Some(item) = items.next()? {
        match item {
            Item::Verbatim { length } => items.skip(length)?,
            Item::Content { path, offset, length } => {
                if place.open(&path)?.metadata()?.len() < offset + length {
                    return Err(broken(&path, "it is shorter than it was").into());
                }
            }
        }
    }
    Ok(())
}

/// Reads all of a layer and compares it with its diff id; and what the digest does not
/// cover with what the archive says: kinds, owners, modes, links.
pub(in crate::image) fn check(recipe: File, place: &Place, diff_id: &Digest) -> Result<(), Broken> {
    let hashed = Hashing::new(Rebuilt::open(recipe, place)?, Hasher::like(diff_id));
    let mut input = BufReader::with_capacity(BUFFER, hashed);
    let mut reader = tar::Reader::new(&mut input);
    while let Some(entry) = reader.next()? {
        look_at(place, &entry)?;
    }
    drop(reader);
    loop {
        let length = input.fill_buf()?.len();
        if length == 0 {
            break;
        }
        input.consume(length);
    }
    let found = input.into_inner().finish();
    if found == *diff_id {
        return Ok(());
    }
    Err(Broken::Layer(format!("its content has digest {found}")))
}

/// Compares one entry with what is on the disk.
fn look_at(place: &Place, entry: &Entry) -> Result<(), Broken> {
    let path = tar::clean(&entry.path).unwrap_or_default().join(&b'/');
    let is_mark = path.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(b".wh."));
    if path.is_empty() || is_mark {
        return Ok(());
    }
    let wrong = |what: &str| Err(broken(&entry.path, what).into());
    let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b""[..], &path[..]),
    };
    let parent = if parent.is_empty() { b".".to_vec() } else { place.now(parent) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Links that the layer itself has in the way lead where unpacking was led.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let found = rustix::fs::openat2(&place.root, parent, flags, Mode::empty(), resolve)
        .and_then(|parent| rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW));
    match found {
        Ok(stat) => compare(entry, &stat).or_else(wrong),
        Err(Errno::NOENT | Errno::NOTDIR) if entry.kind == Kind::Directory => {
            // One that was moved with all it had.
            Ok(())
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => wrong("it is not there"),
        Err(errno) => Err(Broken::Io(errno.into())),
    }
}

fn compare(entry: &Entry, stat: &Stat) -> Result<(), &'static str> {
    let kind = match entry.kind {
        // Whatever it links to, it is there.
        Kind::HardLink => return Ok(()),
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
    };
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Err("it is of another kind");
    }
    // A directory may come twice, and the last word counts.
    if kind == FileType::Directory {
        return Ok(());
    }
    // A later link may have had the last word about these.
    if stat.st_nlink == 1 {
        if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
            return Err("it has another owner");
        }
        if kind != FileType::Symlink && stat.st_mode & 0o7777 != entry.mode {
            return Err("it has another mode");
        }
    }
    if kind == FileType::RegularFile && stat.st_size as u64 != entry.size {
        return Err("it has another size");
    }
    if kind == FileType::Symlink && stat.st_size as usize != entry.link.len() {
        return Err("it leads elsewhere");
    }
    Ok(())
}
