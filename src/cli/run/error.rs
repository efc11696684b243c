//! What keeps a pod from running.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::play;

/// What went wrong.
#[derive(Debug, Error)]
pub enum Error {
    /// The manifest says what cannot be done.
    #[error("{} cannot be run", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        source: play::Error,
    },
    /// A file or directory cannot be used.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path of the host is not what the pod wants there.
    #[error("volume {volume}: {} {reason}", path.display())]
    HostPath {
        /// The volume.
        volume: String,
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A pod of that name runs already.
    #[error("a pod {0} runs already; end it with `criquet stop {0}`")]
    Exists(String),
    /// Nobody has that name.
    #[error("no pod {0} was started with `criquet run`; `criquet ps` shows what runs")]
    Absent(String),
    /// An image cannot be had.
    #[error("image {image}: {reason}")]
    Image {
        /// Which.
        image: String,
        /// Why not.
        reason: String,
    },
    /// The daemon refused.
    #[error("the daemon refuses to {operation}: {reason}")]
    Daemon {
        /// What was asked.
        operation: &'static str,
        /// Its words.
        reason: String,
    },
    /// A daemon of its own does not start.
    #[error("the daemon does not start; {} says why:\n{tail}", log.display())]
    Start {
        /// Its log.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// The pod in the background did not come to run.
    #[error("the pod did not come to run; see {}", .0.display())]
    Background(PathBuf),
}

impl Error {
    /// The kernel refused something with a file.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }

    /// The daemon refused something.
    pub(super) fn daemon(operation: &'static str) -> impl Fn(tonic::Status) -> Self {
        move |status| Self::Daemon { operation, reason: status.message().to_owned() }
    }
}
