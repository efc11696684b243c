//! From a container's configuration and its image's to one OCI runtime spec.
//!
//! Entry point: `container::build`. It touches no file: what it needs of the node and of
//! the image comes as values.

pub mod capabilities;
pub mod config;
pub mod container;
pub mod edits;
pub mod error;
pub mod extras;
mod given;
pub mod mounts;
pub mod resources;
pub mod seccomp;
pub mod selinux;
pub mod signal;
pub mod text;
pub mod ulimit;

pub use error::Error;
