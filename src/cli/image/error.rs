//! The errors of commands on images.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    cli::serve,
    image,
    store::{self},
};

/// What a command on images can fail with.
#[derive(Debug, Error)]
pub enum Error {
    /// An archive cannot be read or written.
    #[error("cannot {operation} {}", path.display())]
    Archive {
        /// What was attempted.
        operation: &'static str,
        /// The archive.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No daemon answers.
    #[error("no daemon answers at {}; start one, or name its socket with --listen", socket.display())]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon refused.
    #[error("the daemon refuses: {0}")]
    Daemon(String),
    /// No image of that name.
    #[error("no such image: {0}")]
    Absent(String),
    /// Containers use the image.
    #[error("image {image} is used by container {container}; remove it first, or use --force")]
    InUse {
        /// As the user named it.
        image: String,
        /// The id of one that uses it.
        container: String,
    },
    /// Credentials are not well formed.
    #[error("credentials are written USER:PASSWORD")]
    Credentials,
    /// Credentials cannot be read.
    #[error("cannot read credentials from standard input")]
    Input(#[source] io::Error),
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

impl Error {
    /// Turns an I/O error into one that says what was attempted.
    pub(super) fn archive(
        operation: &'static str,
        path: &std::path::Path,
    ) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Error::Archive { operation, path: path.clone(), source }
    }
}
