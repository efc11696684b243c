//! What the commands for people on a node can fail with.

use std::{io, path::PathBuf};

use thiserror::Error;

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
    /// The streaming server wants TLS.
    #[error(
        "the daemon's streaming server has TLS (streaming.tls_cert_file), with which this command \
         cannot speak; use kubectl exec, or crictl exec -s"
    )]
    StreamTls,
    /// The command could not be run.
    #[error("{0}")]
    Command(String),
}
