//! Where the parts of images are: in an archive, or in a directory.

use std::{io::Read, path::Path};

use crate::image::Error;

/// Files by their names, which stay as they are for as long as this is used.
pub(super) trait Source {
    /// Whether there is such a file.
    fn has(&self, name: &str) -> bool;

    /// How many bytes it has.
    fn size(&self, name: &str) -> Result<u64, Error>;

    /// A small file, held whole.
    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error>;

    /// The bytes of a file.
    fn reader(&self, name: &str) -> Result<Box<dyn Read + Send + '_>, Error>;

    /// The archive or the directory.
    fn path(&self) -> &Path;

    /// What is wrong with it.
    fn wrong(&self, reason: &str) -> Error {
        Error::Archive { path: self.path().to_owned(), reason: reason.to_owned() }
    }

    /// How messages name it.
    fn name(&self) -> String {
        self.path().display().to_string()
    }
}
