//! `criquet image`: work on the image store.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::config::Config;

/// What a command on images can fail with.
#[derive(Debug, Error)]
pub enum Error {
    /// Not built yet.
    #[error("cannot import {}: the import of archives is not there yet", archive.display())]
    Import {
        /// The archive.
        archive: PathBuf,
    },
}

/// Imports the images of an archive.
pub(super) fn import(_config: &Config, archive: &Path) -> Result<(), Error> {
    Err(Error::Import { archive: archive.to_owned() })
}
