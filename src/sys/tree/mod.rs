//! Trees that strangers made: removed, counted and copied whatever their depth, width and rights.
//!
//! Nothing here calls itself, no path is longer than one name, no link is followed, and what
//! is mounted inside stays as it is. Of however many directories only some are open at once.

mod copy;
#[cfg(feature = "daemon")]
mod relabel;
mod remove;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

pub use copy::copy;
#[cfg(feature = "daemon")]
pub use relabel::{label, relabel, set_label};
pub use remove::{remove, remove_at};
pub use usage::{Usage, usage, usage_at};

/// The most directories that are open at once.
const MOST_OPEN: usize = 64;

/// Opens a directory of this name in another, on the same mount.
fn open_directory(parent: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(parent.as_fd(), name, flags, Mode::empty(), resolve) {
            // Something was renamed meanwhile.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
