//! The errors of `criquet reset`.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::cli::image;

/// What `criquet reset` can fail with.
#[derive(Debug, Error)]
pub enum Error {
    /// A daemon serves.
    #[error(
        "a daemon serves at {}, and whoever uses it would start pods again; stop it first \
         (systemctl stop criquet)",
        socket.display()
    )]
    DaemonRuns {
        /// Its socket.
        socket: PathBuf,
    },
    /// The daemon of this command cannot be started or ended.
    #[error("cannot {operation} a daemon to end pods with")]
    Daemon {
        /// What was attempted.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The daemon of this command has ended by itself.
    #[error("the daemon that was to end pods has ended with {status}; it said:\n{said}")]
    Ended {
        /// How.
        status: String,
        /// The end of its log.
        said: String,
    },
    /// The daemon of this command does not answer.
    #[error("the daemon that was to end pods does not answer within {seconds} s; it said:\n{said}")]
    Silent {
        /// How long it was waited for.
        seconds: u64,
        /// The end of its log.
        said: String,
    },
    /// The daemon refused, or its answer did not come.
    #[error(transparent)]
    Client(#[from] image::Error),
}
