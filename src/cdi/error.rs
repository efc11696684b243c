//! What can keep a container from a device.

use std::path::PathBuf;

use thiserror::Error;

use crate::kind::Kind;

/// A device that a container cannot get.
#[derive(Debug, Error)]
pub enum Error {
    /// The name is none.
    #[error("{device:?} is no name of a CDI device: {reason}; write vendor.com/class=name")]
    Name {
        /// As asked for.
        device: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody describes the device.
    #[error(
        "CDI device {device} is not known: no specification in {directories} describes it{problems}"
    )]
    Unknown {
        /// Its qualified name.
        device: String,
        /// Where specifications are looked for.
        directories: String,
        /// Specifications that cannot be read, after a semicolon; or nothing.
        problems: String,
    },
    /// More than one specification describes the device.
    #[error(
        "CDI device {device} is described by both {} and {}, which have the same priority; remove \
         one of them",
        first.display(),
        second.display()
    )]
    Conflict {
        /// Its qualified name.
        device: String,
        /// A specification.
        first: PathBuf,
        /// Another one in the same directory.
        second: PathBuf,
    },
    /// What the device names on the host is not there, or is something else.
    #[error("CDI device {device} has {} of this host, {reason}", path.display())]
    Host {
        /// Its qualified name.
        device: String,
        /// A path of the host.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The device asks for what this node does not have.
    #[error("CDI device {device} asks for {what}, {reason}")]
    Unsupported {
        /// Its qualified name.
        device: String,
        /// A field of its specification.
        what: &'static str,
        /// Why it is not given.
        reason: &'static str,
    },
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Name { .. } => Kind::InvalidArgument,
            Error::Unknown { .. } => Kind::NotFound,
            Error::Conflict { .. } | Error::Host { .. } => Kind::FailedPrecondition,
            Error::Unsupported { what: "intelRdt", .. } => Kind::FailedPrecondition,
            Error::Unsupported { .. } => Kind::Unimplemented,
        }
    }
}
