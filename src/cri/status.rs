//! The one conversion of errors to gRPC.

use std::error::Error;

use tonic::{Code, Status};

use crate::{image, kind::Kind, network, pod, spec, streaming};

/// The code of a kind.
fn code_of(kind: Kind) -> Code {
    match kind {
        Kind::NotFound => Code::NotFound,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::DataLoss => Code::DataLoss,
        Kind::Internal => Code::Internal,
    }
}

/// A status with the messages of the error and of all its sources.
fn status(kind: Kind, error: &dyn Error) -> Status {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(": ");
        message.push_str(&error.to_string());
        source = error.source();
    }
    Status::new(code_of(kind), message)
}

macro_rules! into_status {
    ($($error:ty),*) => {$(
        impl From<$error> for Status {
            fn from(error: $error) -> Self {
                status(error.kind(), &error)
            }
        }
    )*};
}

into_status!(pod::Error, image::Error, network::Error, spec::Error, streaming::Error);

/// The answer of a call that has not been built yet.
pub(super) fn not_built(call: &str) -> Status {
    Status::unimplemented(format!("{call} is not supported by this version of Criquet"))
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use crate::spec;

    #[test]
    fn kinds_become_codes() {
        let status = Status::from(spec::Error::unsupported("CDI_devices", "leave it out"));
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("CDI_devices"));
        let status = Status::from(spec::Error::invalid("hostname", "is too long"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "hostname: is too long");
    }
}
