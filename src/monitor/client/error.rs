//! What can go wrong between the daemon and a monitor.

use std::{io, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::{
    kind::Kind,
    monitor::{PROTOCOL, v1},
};

/// A failure to reach a monitor, or what it answered.
#[derive(Debug, Error)]
pub enum Error {
    /// The program cannot be made ready.
    #[error("cannot read the monitor's program {}; install criquet-monitor beside criquet or set monitor_path", path.display())]
    Program {
        /// Where it was looked for.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A monitor cannot be started or reached.
    #[error("cannot {operation} the monitor of the pod")]
    Connection {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Nobody listens for the pod, or the monitor closed the connection before it answered.
    #[error("the monitor of the pod is gone")]
    Gone,
    /// Somebody may listen, and cannot be reached now: its queue is full, this process has no
    /// descriptor left.
    #[error("the monitor of the pod cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The monitor took too long. It may do yet what it was asked for; its answer is dropped.
    #[error("the monitor of the pod has not answered {call} within {after:?}")]
    Timeout {
        /// What it was asked for.
        call: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The monitor speaks another language.
    #[error(
        "the monitor of the pod is of release {build} (protocol {protocol}), which this daemon \
         (protocol {PROTOCOL}) does not speak with; run the release between the two, or make the \
         pod anew"
    )]
    Incompatible {
        /// Its protocol.
        protocol: u32,
        /// Its release.
        build: String,
    },
    /// The monitor refused.
    #[error("{message}")]
    Refused {
        /// The kind of its error.
        kind: Kind,
        /// Its words.
        message: String,
    },
    /// What is sent cannot be encoded.
    #[error("cannot encode a request to the monitor")]
    Encode(#[from] serde_json::Error),
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Refused { kind, .. } => *kind,
            Error::Program { .. } => Kind::FailedPrecondition,
            Error::Connection { source, .. } => Kind::of_io(source),
            Error::Gone | Error::Unreachable(_) => Kind::Unavailable,
            Error::Timeout { .. } => Kind::DeadlineExceeded,
            Error::Incompatible { .. } => Kind::FailedPrecondition,
            Error::Encode(_) => Kind::Internal,
        }
    }
}

/// What a monitor refused.
pub(super) fn refused(failure: v1::Failure) -> Error {
    let kind = match failure.code() {
        v1::Code::Internal => Kind::Internal,
        v1::Code::InvalidArgument => Kind::InvalidArgument,
        v1::Code::FailedPrecondition => Kind::FailedPrecondition,
        v1::Code::ResourceExhausted => Kind::ResourceExhausted,
        v1::Code::NotFound => Kind::NotFound,
        v1::Code::Unimplemented => Kind::Unimplemented,
        v1::Code::DeadlineExceeded => Kind::DeadlineExceeded,
    };
    Error::Refused { kind, message: failure.message }
}
