//! Images: pulled from registries or imported from archives, unpacked into layers that
//! overlay can stack, and removed again.
//!
//! Entry point: `ImageStore::open`. The store says which directories make up a root
//! filesystem; it mounts nothing and knows nothing of pods. Only what waits for the network
//! is async; layers are decompressed and written on blocking threads.
//!
//! Durable state is in the database (images, layers) and in small files (holders, notes of
//! layers without an image); `layers` and `holders` say what may be lost when.

mod admission;
mod artifact;
mod auth;
mod auth_file;
mod config;
mod digest;
mod error;
mod export;
mod fetch;
#[doc(hidden)]
pub mod fuzz;
mod holders;
mod hosts;
mod images;
mod import;
mod join;
mod layers;
mod manifest;
mod metrics;
mod options;
mod platform;
mod policy;
mod progress;
mod pull;
mod recipe;
mod records;
mod reference;
mod registry;
mod rules;
mod search;
mod settle;
mod signature;
mod spool;
mod stack;
mod store;
mod stream;
mod tar;
mod task;
mod unpack;
mod users;
mod verify;

#[cfg(test)]
mod tests;

pub use auth::Auth;
pub use config::ImageConfig;
pub use digest::{Digest, DigestError, ImageId};
pub use error::Error;
pub use images::Image;
pub use import::{Imported, KUBERNETES, Origin};
pub use options::{FsUsage, Options, RootOwner};
pub use progress::{LayerProgress, LayerState, PullProgress};
pub use records::recorded_layers;
pub use reference::{Reference, Version};
pub use rules::{NamePattern, PatternError, RegistryPattern, Rules};
pub use store::ImageStore;
pub use stream::{try_worker, worker_main};
pub use users::{User, Users};
