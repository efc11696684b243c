//! The one error type of the module's border.

mod meaning;

use std::{io, path::PathBuf, sync::Arc};

use super::{Digest, ImageId};
use crate::store;

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image reference is not well formed.
    #[error("image reference {reference:?} is not valid: {reason}")]
    Reference {
        /// As the caller gave it.
        reference: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No image of that name is in the store.
    #[error("image {name} is not here; pull it first")]
    Absent {
        /// The name or id that was asked for.
        name: String,
    },
    /// The registry does not know the image.
    #[error(
        "{what} of image {reference} is not known to registry {host}; check the name and the tag{says}"
    )]
    Unknown {
        /// `manifest` or a blob's digest.
        what: String,
        /// The image.
        reference: String,
        /// The last host that was asked.
        host: String,
        /// What the registry says about it.
        says: String,
    },
    /// The registry wants credentials, or other ones.
    #[error(
        "registry {host} refuses to give image {reference} without valid credentials; check that the image exists and that the pull secret for {host} is right{says}"
    )]
    Unauthenticated {
        /// The image.
        reference: String,
        /// The host that refused.
        host: String,
        /// What the registry says about it.
        says: String,
    },
    /// The registry knows the caller and does not let it read the image.
    #[error(
        "registry {host} forbids these credentials to read image {reference}; ask its owner for the right to pull{says}"
    )]
    Forbidden {
        /// The image.
        reference: String,
        /// The host that refused.
        host: String,
        /// What the registry says about it.
        says: String,
    },
    /// No connection, or one that broke too often.
    #[error(
        "registry {host} cannot be reached for image {reference}: {reason}; check the network, the proxy variables and the host's hosts.toml"
    )]
    Unreachable {
        /// The image.
        reference: String,
        /// The host.
        host: String,
        /// What went wrong, without any address that may hold a secret.
        reason: String,
    },
    /// The registry answers with a status that helps nobody.
    #[error(
        "registry {host} answers {status} for image {reference}; try again later, or ask the registry's operator{says}"
    )]
    Status {
        /// The image.
        reference: String,
        /// The host.
        host: String,
        /// The HTTP status code.
        status: u16,
        /// What the registry says about it.
        says: String,
    },
    /// The registry stopped sending.
    #[error(
        "registry {host} sent nothing of image {reference} for {seconds} s; check the network, or raise the pull progress timeout"
    )]
    Stalled {
        /// The image.
        reference: String,
        /// The host.
        host: String,
        /// The progress timeout.
        seconds: u64,
    },
    /// The registry's answers do not follow the protocol.
    #[error("registry {host} gives an answer for image {reference} that cannot be used: {reason}")]
    Protocol {
        /// The image.
        reference: String,
        /// The host.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest, an index or a configuration cannot be used.
    #[error("image {reference} cannot be used: {reason}")]
    Manifest {
        /// The image.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image is not made for this machine.
    #[error(
        "image {reference} has no variant for {wanted}; it offers {offered}; use an image that is built for this platform"
    )]
    Platform {
        /// The image.
        reference: String,
        /// This machine's platform.
        wanted: String,
        /// What the index lists.
        offered: String,
    },
    /// Content does not have the digest by which it was asked for.
    #[error(
        "{what} should have digest {expected}, but has {found}; the registry or a proxy on the way corrupts it, so pull again or push the image anew"
    )]
    Corrupt {
        /// What was checked.
        what: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came; boxed, since errors are to stay small.
        found: Box<Digest>,
    },
    /// A layer's stream breaks off or cannot be decompressed.
    #[error("layer {layer} is damaged: {reason}; push the image anew")]
    Damaged {
        /// The layer's diff id.
        layer: Digest,
        /// What is wrong.
        reason: String,
    },
    /// A layer's archive holds what must not be unpacked.
    #[error("layer {layer} cannot be unpacked at {path:?}: {reason}; build the image anew")]
    Layer {
        /// The layer's diff id.
        layer: Digest,
        /// The entry.
        path: String,
        /// Why it was refused.
        reason: String,
    },
    /// Something is larger than any honest image.
    #[error("{what} goes beyond the limit of {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// A `hosts.toml` file, or one that it names, cannot be used.
    #[error("registry configuration {} cannot be used: {reason}", path.display())]
    Hosts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The administrator allows nothing from there.
    #[error(
        "image {reference} is of a blocked registry ({pattern}); the node's administrator decides about registry.blocked"
    )]
    Blocked {
        /// The image.
        reference: String,
        /// The pattern that matches it.
        pattern: String,
    },
    /// A file of credentials cannot be used.
    #[error("credentials {} cannot be used: {reason}", path.display())]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive for import is not one.
    #[error("archive {} cannot be imported: {reason}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The image does not have the user or group.
    #[error(
        "image {image} has no {what} {name:?}; name one that is in its /etc/{file}, or use a number"
    )]
    User {
        /// The image; boxed, since errors are to stay small.
        image: Box<ImageId>,
        /// `user` or `group`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// `passwd` or `group`.
        file: &'static str,
    },
    /// A user id or group id is out of range, or a user database cannot be used.
    #[error("user {name:?} of image {image} cannot be used: {reason}")]
    UserDatabase {
        /// The image.
        image: ImageId,
        /// What was looked up.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer on disk is not what was unpacked.
    #[error("layer {layer} is broken on this disk: {reason}; pull its images again")]
    Broken {
        /// The layer's diff id.
        layer: Digest,
        /// What is wrong.
        reason: String,
    },
    /// The archive of a layer cannot be made again.
    #[error(
        "layer {layer} cannot be exported: its archive has entries that replace each other, so \
         take the image from its registry with another tool; or it was unpacked by an older \
         release, so remove the images that have it and pull them again"
    )]
    NoRecipe {
        /// The layer's diff id.
        layer: Digest,
    },
    /// What an archive is written to failed.
    #[error("the archive cannot be written")]
    Sink {
        /// What the kernel says.
        source: io::Error,
    },
    /// The signature policy cannot be used, so that nothing is let in.
    #[error("signature policy {} cannot be used: {reason}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The signature policy does not let the image in. The first word is the one by which the
    /// kubelet knows this (`ErrSignatureValidationFailed` of the CRI's errors).
    #[error("SignatureValidationFailed: image {reference} is not accepted: {reason}")]
    Signature {
        /// The image.
        reference: String,
        /// Which requirement is not met, and why.
        reason: String,
    },
    /// There is no room for a layer.
    #[error(
        "layer {layer} cannot be written at {path:?}; make room on the file system of the image store, or raise its quota, and pull again"
    )]
    Full {
        /// The layer's diff id.
        layer: Digest,
        /// The entry.
        path: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// A pull failed; the source says why.
    #[error("cannot pull image {reference}")]
    Pull {
        /// The image.
        reference: String,
        /// What went wrong.
        source: Arc<Error>,
    },
    /// A file operation of the store itself.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The state database.
    #[error("the image database failed")]
    Database(#[source] Box<store::Error>),
    /// Nobody waits for the pull any longer.
    #[error("the pull was cancelled")]
    Cancelled,
    /// A task ended without an answer.
    #[error("a task of the image store ended unexpectedly")]
    Task,
    /// The failure of work that several callers waited for.
    #[error(transparent)]
    Joined(Arc<Error>),
}
