//! What a container is made from: an OCI runtime spec and where its root filesystem lies.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::error::{During, Error};
use crate::sys::seccomp::{self, Instruction};

/// Everything that the child of [`super::start::start`] reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bundle {
    /// The OCI runtime spec. `root.path` is ignored in favour of `rootfs`.
    pub spec: Spec,
    /// The root filesystem.
    pub rootfs: Rootfs,
    /// An empty directory of the host. The root filesystem is attached there, in the mount
    /// namespace of the container only, until it becomes the root.
    pub mount_point: PathBuf,
    /// Volumes that the image declares; none from a daemon that does not know them.
    #[serde(default)]
    pub volumes: DeclaredVolumes,
    /// What hooks are told, where the spec has any.
    #[serde(default)]
    pub hooks: Option<HookContext>,
    /// Values of the environment that are not UTF-8, and which an OCI spec cannot hold.
    #[serde(default)]
    pub raw_environment: RawEnvironment,
}

/// Bytes of variables by their names, instead of what the spec says.
pub type RawEnvironment = BTreeMap<String, Vec<u8>>;

/// What hooks are told of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookContext {
    /// Its id.
    pub id: String,
    /// A directory of the host with its spec as `config.json`.
    pub directory: PathBuf,
}

/// Volumes that an image declares (`VOLUME`), none of which lies in another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredVolumes {
    /// A directory of the host for what is in them, each by its number; none for empty
    /// directories in the root filesystem instead.
    pub directory: Option<PathBuf>,
    /// Where they are in the container.
    pub paths: Vec<PathBuf>,
}

/// Where a root filesystem comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Rootfs {
    /// An overlay of image layers and a writable directory.
    Overlay {
        /// The directory that the layers lie in.
        layers: PathBuf,
        /// Layers relative to `layers` (or absolute), the top one first.
        lower: Vec<PathBuf>,
        /// The writable directory.
        upper: PathBuf,
        /// The overlay's work directory, on the same filesystem as `upper`.
        work: PathBuf,
    },
    /// A directory as it is.
    Directory(PathBuf),
}

/// One more process in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecBundle {
    /// The OCI process: arguments, environment, user, capabilities.
    pub process: Process,
    /// `SECCOMP_FILTER_FLAG_*` for the container's filter.
    pub seccomp_flags: u32,
    /// Values of the environment that are not UTF-8.
    #[serde(default)]
    pub raw_environment: RawEnvironment,
}

/// Parses a file.
pub(super) fn read_json<T: DeserializeOwned>(file: OwnedFd) -> Result<T, Error> {
    read_json_at(file.as_fd())
}

/// The same of a file that others read too, each from its beginning.
pub(super) fn read_json_at<T: DeserializeOwned>(file: BorrowedFd<'_>) -> Result<T, Error> {
    let bytes = read_whole(file)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::spec("spec", format!("does not parse: {error}")))
}

/// A compiled filter of system calls.
///
/// # Errors
/// When it cannot be read.
pub fn read_filter(file: &OwnedFd) -> Result<Vec<Instruction>, Error> {
    Ok(seccomp::from_bytes(&read_whole(file.as_fd())?))
}

/// By positions of its own: the position of the descriptor belongs to all who have it.
pub(super) fn read_whole(file: BorrowedFd<'_>) -> Result<Vec<u8>, Error> {
    let size = rustix::fs::fstat(file).during("inspect", "bundle")?.st_size;
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(file, &mut bytes[filled..], filled as u64) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => bytes.truncate(filled),
            length => filled += length.during("read", "bundle")?,
        }
    }
    Ok(bytes)
}
