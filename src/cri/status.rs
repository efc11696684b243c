//! The one conversion of errors to gRPC.

use std::error::Error;

use tonic::{Code, Status};

use crate::{
    image,
    kind::{Kind, chain},
    network, pod, spec, streaming,
};

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
    Status::new(code_of(kind), chain(error))
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

/// The failure of a pull. The kubelet looks for its own words at the beginning of a message,
/// and it only sees the bare message where the code is UNKNOWN.
pub(super) fn of_pull(error: image::Error) -> Status {
    let sentinel = error.sentinel();
    let status = Status::from(error);
    match sentinel {
        Some(word) if status.message().starts_with(word) => Status::unknown(status.message()),
        Some(word) => Status::unknown(format!("{word}: {}", status.message())),
        None => status,
    }
}

/// The answer of a call that has not been built yet.
pub(super) fn not_built(call: &str) -> Status {
    Status::unimplemented(format!("{call} is not supported by this version of Criquet"))
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use crate::{image, spec};

    #[test]
    fn kinds_become_codes() {
        let status = Status::from(spec::Error::unsupported("CDI_devices", "leave it out"));
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("CDI_devices"));
        let status = Status::from(spec::Error::invalid("hostname", "is too long"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "hostname: is too long");
    }

    #[test]
    fn the_kubelet_finds_its_words() {
        let status =
            super::of_pull(image::Error::Joined(std::sync::Arc::new(image::Error::Unreachable {
                reference: "r.io/a:1".into(),
                host: "r.io".into(),
                reason: "x".into(),
            })));
        assert_eq!(status.code(), Code::Unknown);
        assert!(status.message().starts_with("RegistryUnavailable: registry r.io"), "{status}");
        let status = super::of_pull(image::Error::Absent { name: "a".into() });
        assert_eq!(status.code(), Code::NotFound);
    }
}
