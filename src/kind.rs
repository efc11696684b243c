//! The kinds of failure that callers tell apart. Every error enum of a module's border
//! answers `kind()`; `cri/status.rs` turns it into a gRPC code.

use std::error::Error;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The object does not exist.
    NotFound,
    /// The request itself is wrong; the same request will fail again.
    InvalidArgument,
    /// The object is in a state that does not allow this.
    FailedPrecondition,
    /// Another object already has this identity.
    AlreadyExists,
    /// Something outside is not reachable now; a retry may succeed.
    Unavailable,
    /// The caller lacks credentials, or they were refused.
    Unauthenticated,
    /// The operation is not allowed.
    PermissionDenied,
    /// Disk, memory or another bound is exhausted.
    ResourceExhausted,
    /// A time limit passed.
    DeadlineExceeded,
    /// The caller gave up.
    Cancelled,
    /// Not built yet.
    Unimplemented,
    /// Data is corrupt, or does not match its digest.
    DataLoss,
    /// Everything that should not happen.
    Internal,
}

impl Kind {
    /// Its name, as in figures.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NotFound => "not_found",
            Kind::InvalidArgument => "invalid_argument",
            Kind::FailedPrecondition => "failed_precondition",
            Kind::AlreadyExists => "already_exists",
            Kind::Unavailable => "unavailable",
            Kind::Unauthenticated => "unauthenticated",
            Kind::PermissionDenied => "permission_denied",
            Kind::ResourceExhausted => "resource_exhausted",
            Kind::DeadlineExceeded => "deadline_exceeded",
            Kind::Cancelled => "cancelled",
            Kind::Unimplemented => "unimplemented",
            Kind::DataLoss => "data_loss",
            Kind::Internal => "internal",
        }
    }

    /// The kind that an I/O error is when nothing more is known.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory => {
                Kind::ResourceExhausted
            }
            // Only names that come from outside are ever that long, or hold a zero byte.
            ErrorKind::InvalidFilename => Kind::InvalidArgument,
            _ => Kind::Internal,
        }
    }
}

/// An error with its sources, each of which adds its own fact, for the one place that tells it.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
