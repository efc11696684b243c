//! What can go wrong in the life of a pod.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use crate::{cdi, image, kind::Kind, monitor::client, network, runtime, spec, store, systemd};

/// A failure of a call. Cheap to clone: several callers may wait for one task.
#[derive(Debug, Clone, Error)]
#[error(transparent)]
pub struct Error(Arc<Reason>);

/// Why a call failed.
#[derive(Debug, Error)]
pub enum Reason {
    /// There is no such object.
    #[error("{what} {id:?} does not exist")]
    NotFound {
        /// `sandbox` or `container`.
        what: &'static str,
        /// As the caller wrote it.
        id: String,
    },
    /// More than one object matches.
    #[error("{what} {id:?} matches more than one; give more digits of the id")]
    Ambiguous {
        /// `sandbox` or `container`.
        what: &'static str,
        /// As the caller wrote it.
        id: String,
    },
    /// The object cannot do this in its state.
    #[error("{what} {id} is {state}, so {action} is not possible{hint}")]
    State {
        /// `sandbox` or `container`.
        what: &'static str,
        /// Its id.
        id: String,
        /// The state it is in.
        state: &'static str,
        /// What was asked of it.
        action: &'static str,
        /// What to do, with a leading `; `, or nothing.
        hint: &'static str,
    },
    /// Another object has this identity.
    #[error(
        "{what} {id} with this name and attempt exists and has ended; remove it, or raise the attempt"
    )]
    Exists {
        /// `sandbox` or `container`.
        what: &'static str,
        /// The id of the other.
        id: String,
    },
    /// The image is not in the store.
    #[error("image {0:?} is not in the store; pull it first")]
    NoImage(String),
    /// An image without a root filesystem.
    #[error(
        "image {0:?} is an artifact without a root filesystem; mount it as a volume of a container"
    )]
    Artifact(String),
    /// An image cannot be mounted as a volume. The first word is the one by which the kubelet
    /// knows this (`ErrImageVolumeMountFailed` of the CRI's errors).
    #[error("ImageVolumeMountFailed: image {image:?} cannot be mounted at {path:?}")]
    ImageVolume {
        /// As asked for.
        image: String,
        /// Where in the container.
        path: String,
        /// What is wrong.
        source: Error,
    },
    /// There is nothing at a path of an image.
    #[error("the image has no {0:?}; name a path that it has")]
    NoSubPath(String),
    /// The runtime handler is not known.
    #[error("runtime handler {name:?} is not configured; there are: {known}")]
    Handler {
        /// As asked for.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// A process does not end.
    #[error(
        "{what} {id} did not end after SIGKILL; its processes wait in the kernel, see /proc/PID/stack"
    )]
    Unkillable {
        /// `sandbox` or `container`.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A command took too long.
    #[error(
        "command {command:?} in container {container} did not end within {seconds} seconds and was killed"
    )]
    Timeout {
        /// The command.
        command: String,
        /// The container's id.
        container: String,
        /// The limit.
        seconds: i64,
    },
    /// The pod's monitor does not answer.
    #[error(
        "sandbox {id} does not answer ({stage}: {words}), so {action} is not possible; it is \
         taken up again when it does, or stop it"
    )]
    Silent {
        /// The sandbox.
        id: String,
        /// What was asked of its monitor.
        stage: &'static str,
        /// What became of that.
        words: String,
        /// What was asked of the pod.
        action: &'static str,
    },
    /// Something took too long, and is given up.
    #[error("{what} did not end within {seconds} seconds; the file system there may not answer")]
    TooSlow {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// As many monitors are connected to as this process has descriptors for.
    #[error(
        "this daemon may have {limit} descriptors, which is not enough for one more pod; raise \
         LimitNOFILE in its unit"
    )]
    NoDescriptor {
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// A pod wants a limit of its containers' layers on a file system without quotas.
    #[error(
        "{annotation} cannot hold on this node: the file system of Criquet's root has no project \
         quotas; mount it with prjquota, or leave the annotation out"
    )]
    NoQuota {
        /// Its annotation.
        annotation: String,
    },
    /// Labels are asked for, and this node gives none.
    #[error(
        "SELinux labels are asked for, and containers get none on this node: {0}; mend that, or \
         leave the options out"
    )]
    NoLabels(String),
    /// Every pair of categories is in use.
    #[error(
        "there is no SELinux level left for one more pod; raise security.selinux_category_range \
         as far as the policy allows"
    )]
    NoLevel,
    /// All threads wait for file systems.
    #[error(
        "{0} operations wait for file systems that do not answer; look for volumes and log \
         directories that hang, and unmount them"
    )]
    NoPlace(usize),
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The task was ended by a panic or the daemon's end.
    #[error("the operation was ended before it was done; try again")]
    Aborted,
    /// The configuration is wrong.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// Devices by name.
    #[error(transparent)]
    Cdi(#[from] cdi::Error),
    /// Images.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// Networks.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The monitor.
    #[error(transparent)]
    Monitor(#[from] client::Error),
    /// The runtime, where the daemon itself uses it.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// Durable state.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// systemd.
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match &*self.0 {
            Reason::NotFound { .. } | Reason::NoImage(_) | Reason::NoSubPath(_) => Kind::NotFound,
            Reason::ImageVolume { source, .. } => source.kind(),
            Reason::Ambiguous { .. } | Reason::Handler { .. } | Reason::Artifact(_) => {
                Kind::InvalidArgument
            }
            Reason::State { .. } | Reason::NoQuota { .. } | Reason::NoLabels(_) => {
                Kind::FailedPrecondition
            }
            Reason::Exists { .. } => Kind::AlreadyExists,
            Reason::Unkillable { .. } | Reason::Timeout { .. } | Reason::TooSlow { .. } => {
                Kind::DeadlineExceeded
            }
            Reason::NoPlace(_) | Reason::NoDescriptor { .. } | Reason::NoLevel => {
                Kind::ResourceExhausted
            }
            Reason::Silent { .. } => Kind::Unavailable,
            Reason::Io { source, .. } => Kind::of_io(source),
            Reason::Aborted => Kind::Unavailable,
            Reason::Spec(error) => error.kind(),
            Reason::Cdi(error) => error.kind(),
            Reason::Image(error) => error.kind(),
            Reason::Network(error) => error.kind(),
            Reason::Monitor(error) => error.kind(),
            Reason::Runtime(error) => error.kind(),
            Reason::Store(error) => error.kind(),
            Reason::Systemd(error) => error.kind(),
        }
    }

    /// Why it failed.
    pub fn reason(&self) -> &Reason {
        &self.0
    }

    pub(super) fn not_found(what: &'static str, id: &str) -> Self {
        Reason::NotFound { what, id: id.to_owned() }.into()
    }
}

impl<E: Into<Reason>> From<E> for Error {
    fn from(reason: E) -> Self {
        Self(Arc::new(reason.into()))
    }
}

/// Says what an I/O error belongs to.
pub(super) trait During<T> {
    fn during(self, operation: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, operation: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Reason::Io { operation, path: path.to_owned(), source }.into())
    }
}
