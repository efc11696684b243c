//! What a configuration can ask for and not get.

use thiserror::Error;

use crate::kind::Kind;

/// A configuration that cannot become a spec.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// The value of a field is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field as the CRI names it.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The field asks for something that is not built yet.
    #[error("{field} is not supported yet: {reason}")]
    Unsupported {
        /// The field as the CRI names it.
        field: &'static str,
        /// What to do instead.
        reason: String,
    },
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Invalid { .. } => Kind::InvalidArgument,
            Error::Unsupported { .. } => Kind::Unimplemented,
        }
    }

    /// An [`Error::Invalid`].
    pub fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Error::Invalid { field, reason: reason.into() }
    }

    /// An [`Error::Unsupported`].
    pub fn unsupported(field: &'static str, reason: impl Into<String>) -> Self {
        Error::Unsupported { field, reason: reason.into() }
    }
}
