//! What can go wrong when the kernel is asked to make a container.

use std::{fmt::Display, io, path::PathBuf};

use thiserror::Error;

use crate::kind::Kind;

/// A failure of the runtime.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refused a step.
    #[error("cannot {operation} {object}")]
    System {
        /// What was tried, such as `mount` or `create cgroup`.
        operation: &'static str,
        /// On what.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The spec asks for what cannot be.
    #[error("{field}: {reason}")]
    Spec {
        /// The field of the spec.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The program cannot be executed.
    #[error("cannot execute {program:?}: {reason}")]
    Executable {
        /// As the user wrote it.
        program: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A process cannot have its label of a security module.
    #[error("cannot apply {kind} {label:?}; is it loaded on this node?")]
    Label {
        /// What it is, as in `AppArmor profile`.
        kind: &'static str,
        /// Its name.
        label: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A profile cannot be loaded into the kernel.
    #[error("AppArmor profile {profile} cannot be loaded: {reason}")]
    Profile {
        /// Its name.
        profile: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A cgroup limit is set for a controller that is not there.
    #[error(
        "cgroup file {} is missing; enable its controller on this node, or leave the limit out; a \
         cgroup above that has processes of its own hands no controllers down",
        path.display()
    )]
    Controller {
        /// The file that would hold the limit.
        path: PathBuf,
    },
    /// A cgroup limit is none that the kernel takes.
    #[error("the kernel refuses {value:?} for {}: {reason}", path.display())]
    Limit {
        /// The file that would hold the limit.
        path: PathBuf,
        /// What was written.
        value: String,
        /// What the kernel may mean.
        reason: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What the child reported before it gave up.
    #[error("{message}")]
    Child {
        /// The kind that the child's error had.
        kind: Kind,
        /// The child's error with all its sources.
        message: String,
    },
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::System { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Kind::FailedPrecondition
                }
                // A path of the user or the image that leads nowhere.
                io::ErrorKind::NotADirectory => Kind::InvalidArgument,
                _ if source.raw_os_error() == Some(libc::ELOOP) => Kind::InvalidArgument,
                _ => Kind::of_io(source),
            },
            // What is in use now may not be later.
            Error::Limit { source, .. } if source.raw_os_error() == Some(libc::EBUSY) => {
                Kind::FailedPrecondition
            }
            Error::Spec { .. } | Error::Executable { .. } | Error::Limit { .. } => {
                Kind::InvalidArgument
            }
            Error::Controller { .. } | Error::Label { .. } | Error::Profile { .. } => {
                Kind::FailedPrecondition
            }
            Error::Child { kind, .. } => *kind,
        }
    }

    /// The message with those of all sources, for a reader without the chain.
    pub fn full_message(&self) -> String {
        let mut message = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        message
    }

    /// A [`Error::Spec`].
    pub fn spec(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Spec { field: field.into(), reason: reason.into() }
    }
}

/// Says which step an I/O error belongs to.
pub trait During<T> {
    /// Wraps the error as [`Error::System`].
    fn during(self, operation: &'static str, object: impl Display) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, operation: &'static str, object: impl Display) -> Result<T, Error> {
        self.map_err(|source| Error::System {
            operation,
            object: object.to_string(),
            source: source.into(),
        })
    }
}
