//! `criquet image`: work on the image store.
//!
//! A running daemon does the work itself, since the store is its own. Without one the store
//! is opened here, and held against a daemon that would start meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use super::{config::Config, serve};
use crate::{
    admin::{self, v1::ImportedImage},
    image::{self, ImageStore},
    store::{self, Database, Durability},
};

/// What a command on images can fail with.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such archive.
    #[error("cannot read the archive {}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The daemon refused.
    #[error("the daemon refuses: {0}")]
    Daemon(String),
    /// No threads to work with.
    #[error("cannot start the async runtime")]
    Runtime(#[source] io::Error),
    /// The root is in use by a daemon that does not listen at the configured socket.
    #[error(transparent)]
    Root(#[from] Box<serve::Error>),
    /// State.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Images.
    #[error(transparent)]
    Image(#[from] image::Error),
}

/// Imports the images of an archive and returns a line for each with its id and names.
pub(super) fn import(config: &Config, archive: &Path) -> Result<String, Error> {
    let archive = archive
        .canonicalize()
        .map_err(|source| Error::Archive { archive: archive.to_owned(), source })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let images = match runtime.block_on(admin::import(config.socket(), &archive)) {
        Ok(images) => images,
        Err(status) if status.code() == tonic::Code::Unavailable => import_alone(config, &archive)?,
        Err(status) => return Err(Error::Daemon(status.message().to_owned())),
    };
    Ok(images.iter().map(|image| format!("{} {}\n", image.id, image.names.join(" "))).collect())
}

fn import_alone(config: &Config, archive: &Path) -> Result<Vec<ImportedImage>, Error> {
    let _lock = serve::lock(&config.root).map_err(Box::new)?;
    let path = config.root.join("state.db");
    let database = Arc::new(Database::open(&path, Durability::Power)?);
    let store = ImageStore::open(config.image_options(), database)?;
    Ok(store.import(archive)?.iter().map(admin::imported_image).collect())
}
