//! Working in another network namespace for a moment, and the sysctls of one.
//!
//! Only the network thread changes namespaces, never a thread of the async runtime.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::OFlags,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::sys::sysctl;

/// The namespace of the calling thread.
pub(super) fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread.
pub(super) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Does `work` in `namespace` and comes home to `home` whatever its outcome.
///
/// The outer error means that the thread did not come home: it must do no more work.
pub(super) fn within<T>(
    home: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T,
) -> io::Result<io::Result<T>> {
    if let Err(error) = enter(namespace) {
        return Ok(Err(error));
    }
    let outcome = work();
    enter(home)?;
    Ok(Ok(outcome))
}

/// Reads a sysctl of the current namespace.
pub(super) fn read_sysctl(name: &str) -> io::Result<String> {
    let mut value = String::new();
    open(name, OFlags::RDONLY)?.read_to_string(&mut value)?;
    value.truncate(value.trim_end().len());
    Ok(value)
}

/// Writes a sysctl of the current namespace.
pub(super) fn write_sysctl(name: &str, value: &str) -> io::Result<()> {
    open(name, OFlags::WRONLY)?.write_all(value.as_bytes())
}

/// Settings of networks are those of the calling thread's namespace.
fn open(name: &str, access: OFlags) -> io::Result<File> {
    Ok(sysctl::open(sysctl::own(), &Path::new("net").join(name), access)?.into())
}
