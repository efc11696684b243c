//! An archive as a table of members that can be read in any order.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{plain::plain, source::Source};
use crate::image::{
    Error,
    layers::io_error,
    stream::Bounds,
    tar::{self, Kind},
};

const MEMBERS: usize = 200_000;
const ALIASES: usize = 16;

pub(super) struct Archive {
    path: PathBuf,
    file: File,
    members: HashMap<String, Place>,
}

enum Place {
    Here(Member),
    /// Old archives have a layer once, and links to it.
    Alias(String),
}

/// Where a member's data is.
#[derive(Debug, Clone, Copy)]
struct Member {
    offset: u64,
    size: u64,
}

impl Archive {
    /// Opens the archive and notes what it has. A compressed one is decompressed into a
    /// file without a name in `temporary`.
    pub(super) fn open(path: &Path, temporary: &Path, bounds: &Bounds) -> Result<Self, Error> {
        let file = File::open(path).map_err(io_error("open", path))?;
        if !file.metadata().map_err(io_error("look at", path))?.is_file() {
            return Err(Error::Archive {
                path: path.to_owned(),
                reason: "it is not a file".to_owned(),
            });
        }
        let file = plain(file, path, temporary, bounds)?;
        let mut archive = Self { path: path.to_owned(), file, members: HashMap::new() };
        archive.list().map_err(|error| match error {
            tar::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                archive.wrong("it breaks off")
            }
            tar::Error::Io(error) => io_error("read", path)(error),
            other => archive.wrong(&other.to_string()),
        })?;
        Ok(archive)
    }

    fn list(&mut self) -> Result<(), tar::Error> {
        let mut members = HashMap::new();
        let mut reader = tar::Reader::new(BufReader::with_capacity(
            64 << 10,
            Skipping { file: &self.file, offset: 0 },
        ));
        while let Some(entry) = reader.next()? {
            let Some(name) = std::str::from_utf8(&entry.path).ok().and_then(|name| join("", name))
            else {
                continue;
            };
            let place = match entry.kind {
                Kind::File if entry.segments.is_none() => {
                    Place::Here(Member { offset: reader.position(), size: entry.size })
                }
                Kind::HardLink | Kind::Symlink => {
                    let parent = match entry.kind {
                        Kind::Symlink => name.rsplit_once('/').map_or("", |(parent, _)| parent),
                        _ => "",
                    };
                    let target =
                        std::str::from_utf8(&entry.link).ok().and_then(|link| join(parent, link));
                    let Some(target) = target else { continue };
                    Place::Alias(target)
                }
                _ => continue,
            };
            members.insert(name, place);
            if members.len() > MEMBERS {
                return Err(tar::Error::TooLarge("it has more than 200000 members"));
            }
        }
        self.members = members;
        Ok(())
    }

    /// The member of that name.
    fn find(&self, name: &str) -> Option<Member> {
        let mut name = join("", name)?;
        for _ in 0..ALIASES {
            match self.members.get(&name)? {
                Place::Here(member) => return Some(*member),
                Place::Alias(target) => name = target.clone(),
            }
        }
        None
    }

    fn member(&self, name: &str) -> Result<Member, Error> {
        self.find(name).ok_or_else(|| self.wrong(&format!("it has no member {name:?}")))
    }
}

impl Source for Archive {
    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn size(&self, name: &str) -> Result<u64, Error> {
        Ok(self.member(name)?.size)
    }

    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let member = self.member(name)?;
        if member.size > limit {
            let what = format!("member {name:?} of {}", self.path.display());
            return Err(Error::Limit { what, limit: format!("{} MiB", limit >> 20) });
        }
        let mut bytes = vec![0; member.size as usize];
        self.file.read_exact_at(&mut bytes, member.offset).map_err(io_error("read", &self.path))?;
        Ok(bytes)
    }

    fn reader(&self, name: &str) -> Result<Box<dyn Read + Send + '_>, Error> {
        let Member { offset, size } = self.member(name)?;
        Ok(Box::new(Skipping { file: &self.file, offset }.take(size)))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

struct Skipping<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Skipping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

/// `name` as seen from the directory `parent`, without `.` and `..`; nothing when it leads
/// out of the archive.
fn join(parent: &str, name: &str) -> Option<String> {
    let parent = if name.starts_with('/') { "" } else { parent };
    let mut parts: Vec<&str> = Vec::new();
    for part in parent.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
