//! System calls that neither rustix nor std offer, behind safe interfaces.
//!
//! Every `unsafe` block of Criquet stands here. Functions take borrowed descriptors and
//! flag types and return owned descriptors. The module knows nothing above it.

pub mod bpf;
pub mod clone;
#[cfg(feature = "daemon")]
pub mod descriptors;
pub mod exception;
pub mod exec;
pub mod hardening;
pub mod inherited;
pub mod keyring;
#[cfg(feature = "daemon")]
pub mod memory;
pub mod mount;
pub mod notify;
pub mod path;
#[cfg(feature = "daemon")]
pub mod priority;
#[cfg(feature = "daemon")]
pub mod probe;
#[cfg(feature = "daemon")]
pub mod process;
#[cfg(feature = "daemon")]
pub mod quota;
pub mod seccomp;
#[cfg(feature = "daemon")]
pub mod shared;
pub mod signal;
pub mod socket;
pub mod sysctl;
pub mod tree;

use std::io;

/// Turns the `-1` of a C call into the error that it left in `errno`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
