//! The errors of `criquet doctor`.

use std::path::PathBuf;

use thiserror::Error;

use crate::{
    cli::{image, serve},
    network, pod, store,
};

/// What `criquet doctor` can fail with.
#[derive(Debug, Error)]
pub enum Error {
    /// Without a daemon nobody can say what is about to be made.
    #[error(
        "nothing is removed while no daemon answers at {}; start it, which removes most of this \
         by itself, and ask again; or end all pods with criquet reset",
        socket.display()
    )]
    NotAlone {
        /// The socket.
        socket: PathBuf,
    },
    /// Nobody is there to be asked.
    #[error("standard input is no terminal, so that nobody can be asked; add --yes to remove them")]
    Unasked,
    /// The records of a daemon that does not run cannot be read.
    #[error("no daemon answers, and its records cannot be read")]
    Records(#[from] store::Error),
    /// They are read, and say too little.
    #[error("no daemon answers, and what the last one knew cannot be told")]
    Known(#[from] pod::Error),
    /// The kernel does not tell of its devices and rules.
    #[error("no daemon answers, and what is left of its network cannot be told")]
    Network(#[from] network::Error),
    /// A daemon uses the root, and listens elsewhere.
    #[error(transparent)]
    InUse(#[from] Box<serve::Error>),
    /// The daemon refused, or its answer did not come.
    #[error(transparent)]
    Client(#[from] image::Error),
}
