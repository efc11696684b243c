//! A directory with the files of an OCI layout, as `skopeo` makes it.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::source::Source;
use crate::{
    image::{Error, layers::io_error},
    sys::path::Root,
};

pub(super) struct Directory {
    path: PathBuf,
    root: File,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let root = File::open(path).map_err(io_error("open", path))?;
        Ok(Self { path: path.to_owned(), root })
    }

    fn file(&self, name: &str) -> io::Result<File> {
        // No name leads out of the directory, nor to something that would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(Root::new(self.root.as_fd()).open(Path::new(name), flags)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn existing(&self, name: &str) -> Result<File, Error> {
        self.file(name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.wrong(&format!("it has no file {name:?}")),
            _ => io_error("open", &self.path.join(name))(error),
        })
    }
}

impl Source for Directory {
    fn has(&self, name: &str) -> bool {
        self.file(name).is_ok()
    }

    fn size(&self, name: &str) -> Result<u64, Error> {
        let metadata = self.existing(name)?.metadata();
        Ok(metadata.map_err(io_error("look at", &self.path.join(name)))?.len())
    }

    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let path = self.path.join(name);
        let file = self.existing(name)?;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        if bytes.len() as u64 > limit {
            let what = format!("file {name:?} of {}", self.path.display());
            return Err(Error::Limit { what, limit: format!("{} MiB", limit >> 20) });
        }
        Ok(bytes)
    }

    fn reader(&self, name: &str) -> Result<Box<dyn Read + Send + '_>, Error> {
        Ok(Box::new(self.existing(name)?))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
