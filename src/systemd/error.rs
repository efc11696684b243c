//! What can go wrong with systemd.

use std::time::Duration;

use crate::kind::Kind;

/// A failure of systemd, or of the way to it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The name of a slice is none.
    #[error(
        "{name:?} is not the name of a slice of systemd: {reason}; a name is like \
         kubepods-burstable.slice, where each dash leads one slice deeper"
    )]
    Slice {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no connection, or not any more.
    #[error("systemd cannot be reached over D-Bus ({0}); look at `systemctl status dbus.socket`")]
    Unreachable(String),
    /// systemd has said no.
    #[error("systemd refuses {what}: {message} ({name})")]
    Refused {
        /// The method that was called.
        what: &'static str,
        /// The error's name on D-Bus.
        name: String,
        /// What systemd says.
        message: String,
    },
    /// A unit did not start.
    #[error(
        "systemd has not started {unit}: its job ended with {result:?}; `journalctl -u {unit}` \
         may say why"
    )]
    Job {
        /// The unit.
        unit: String,
        /// How the job ended, in systemd's word.
        result: String,
    },
    /// systemd has taken too long.
    #[error("systemd has not answered within {} s; is it busy, or stopped?", .0.as_secs())]
    TooSlow(Duration),
    /// An answer that is not what the interface promises.
    #[error("systemd's answer is not understood: {0}")]
    Answer(String),
    /// A process is not where it was put.
    #[error("process {pid} is in cgroup {found}, and systemd was to put it into {wanted}")]
    Misplaced {
        /// The process.
        pid: u32,
        /// Where it is.
        found: String,
        /// Where it should be.
        wanted: String,
    },
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Slice { .. } => Kind::InvalidArgument,
            Self::Unreachable(_) => Kind::Unavailable,
            Self::TooSlow(_) => Kind::DeadlineExceeded,
            Self::Refused { .. } | Self::Job { .. } => Kind::FailedPrecondition,
            Self::Answer(_) | Self::Misplaced { .. } => Kind::Internal,
        }
    }

    /// Whether the same may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// Whether systemd has answered with this error.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Refused { name: given, .. } if given == name)
    }
}
