//! What an error means to those who get it: its kind, the kubelet's word for it, and whether
//! another attempt is of use.

use std::sync::Arc;

use super::Error;
use crate::{kind::Kind, store};

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Absent { .. } | Error::Unknown { .. } | Error::Platform { .. } => Kind::NotFound,
            Error::Reference { .. }
            | Error::Manifest { .. }
            | Error::Layer { .. }
            | Error::Archive { .. }
            | Error::User { .. }
            | Error::UserDatabase { .. } => Kind::InvalidArgument,
            Error::Unauthenticated { .. } => Kind::Unauthenticated,
            Error::Forbidden { .. } | Error::Blocked { .. } | Error::Signature { .. } => {
                Kind::PermissionDenied
            }
            Error::Unreachable { .. } | Error::Status { .. } => Kind::Unavailable,
            Error::Stalled { .. } => Kind::DeadlineExceeded,
            Error::Protocol { .. } => Kind::Unavailable,
            Error::Corrupt { .. } | Error::Damaged { .. } | Error::Broken { .. } => Kind::DataLoss,
            Error::Limit { .. } | Error::Full { .. } => Kind::ResourceExhausted,
            Error::Hosts { .. }
            | Error::AuthFile { .. }
            | Error::NoRecipe { .. }
            | Error::Policy { .. } => Kind::FailedPrecondition,
            Error::Io { source, .. } | Error::Sink { source } => Kind::of_io(source),
            Error::Database(source) => source.kind(),
            Error::Cancelled => Kind::Cancelled,
            Error::Task => Kind::Internal,
            Error::Joined(error) | Error::Pull { source: error, .. } => error.kind(),
        }
    }

    /// The word by which the kubelet knows this failure of a pull (`pkg/errors` of cri-api).
    pub fn sentinel(&self) -> Option<&'static str> {
        match self {
            Error::Joined(error) | Error::Pull { source: error, .. } => error.sentinel(),
            Error::Unreachable { .. } | Error::Stalled { .. } => Some("RegistryUnavailable"),
            Error::Status { status: 500.., .. } => Some("RegistryUnavailable"),
            Error::Signature { .. } => Some("SignatureValidationFailed"),
            _ => None,
        }
    }

    /// A manifest or a configuration that is of no use, and why.
    pub(in crate::image) fn unusable(reference: &impl ToString, reason: impl Into<String>) -> Self {
        Error::Manifest { reference: reference.to_string(), reason: reason.into() }
    }

    /// Adds the reference to what does not name it yet.
    pub(in crate::image) fn while_pulling(self, reference: String) -> Self {
        let is_anonymous = matches!(
            self.innermost(),
            Error::Corrupt { .. }
                | Error::Damaged { .. }
                | Error::Layer { .. }
                | Error::Limit { .. }
                | Error::Full { .. }
                | Error::Io { .. }
                | Error::Database(_)
                | Error::Task
        );
        if is_anonymous { Error::Pull { reference, source: Arc::new(self) } } else { self }
    }

    fn innermost(&self) -> &Error {
        match self {
            Error::Joined(error) => error.innermost(),
            other => other,
        }
    }

    /// Whether a later attempt may go on with the layers that are already there.
    pub(in crate::image) fn may_continue(&self) -> bool {
        matches!(self.kind(), Kind::Unavailable | Kind::DeadlineExceeded | Kind::Cancelled)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Error::Database(Box::new(error))
    }
}
