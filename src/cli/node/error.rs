//! What the commands for people on a node can fail with.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::tls;

/// What went wrong.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody has that name.
    #[error("no {what} is called {name}; `criquet ps -a` shows what there is")]
    Absent {
        /// Pod, container or both.
        what: &'static str,
        /// As the user said it.
        name: String,
    },
    /// Several have that name.
    #[error("{name} means several: {}; name one of them", candidates.join(", "))]
    Ambiguous {
        /// As the user said it.
        name: String,
        /// How each can be named.
        candidates: Vec<String>,
    },
    /// There is no container before that one.
    #[error("container {0} was not restarted, or what was there before is removed")]
    NoPrevious(String),
    /// It keeps no log.
    #[error("container {0} has no log file: whoever made it wanted none")]
    NoLog(String),
    /// Its log cannot be read.
    #[error("cannot read the log {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A time that is none.
    #[error("--since is neither so long ago (10m, 1h30m) nor a time (2026-01-31T12:00:00Z): {0}")]
    Since(String),
    /// No terminal.
    #[error("this needs a terminal; use --once for one picture as text")]
    NoTerminal,
    /// No terminal for a command.
    #[error("-t needs a terminal as standard input; leave it out")]
    NoInputTerminal,
    /// The terminal does not do as it is told.
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    /// The streaming server cannot be reached.
    #[error("cannot reach the daemon's streaming server at {url}: {reason}")]
    Stream {
        /// Where.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The streaming server has TLS, and the configuration says nothing of its certificate.
    #[error(
        "the daemon's streaming server has TLS, and streaming.tls_cert_file is not set here; name \
         the daemon's configuration with --config"
    )]
    NoCertificate,
    /// The streaming server is another than that of the configuration.
    #[error(
        "the streaming server at {url} does not show the certificate of {}; restart the daemon if \
         the file is newer, or name its configuration with --config",
        certificate.display()
    )]
    OtherCertificate {
        /// Where.
        url: String,
        /// The file that says which certificate it should show.
        certificate: PathBuf,
    },
    /// The streaming server wants to know who comes.
    #[error(
        "the daemon's streaming server asks its clients for a certificate \
         (streaming.tls_client_ca_file); give --client-cert and --client-key"
    )]
    NoClientCertificate,
    /// The files for TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The command could not be run.
    #[error("{0}")]
    Command(String),
}
