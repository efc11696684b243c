//! The internal runtime: executes an OCI runtime spec on the kernel.
//!
//! Entry points: `start::start` for the init process of a container and `exec::exec` for
//! one more process in it. Both clone the calling, single-threaded process; the child makes
//! itself a container and executes the program. It knows no CRI, no gRPC, no images and
//! nothing asynchronous.

#[cfg(feature = "daemon")]
pub mod apparmor;
pub mod bundle;
pub mod cgroup;
mod console;
mod declared;
mod detached;
mod devices;
pub mod error;
pub mod exec;
mod filter;
pub mod ground;
pub mod hooks;
mod inside;
mod label;
mod mask;
mod mounts;
pub mod namespaces;
mod options;
mod proc;
pub mod process;
mod program;
pub mod report;
pub mod rights;
mod rootfs;
#[cfg(feature = "daemon")]
pub mod seccomp;
pub mod start;
pub mod stdio;
pub mod users;
mod volume;

pub use error::Error;
