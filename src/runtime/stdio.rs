//! Standard streams of a container's process.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags, Uid, fchown, fstat, makedev, mknodat, openat};

use super::{
    detached,
    error::{During, Error},
};
use crate::sys::path::Root;

/// What the child makes its descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum ChildStdio {
    /// One descriptor for each stream.
    Streams {
        /// Read by the program; none for the null device of the container.
        stdin: Option<OwnedFd>,
        /// Written by the program.
        stdout: OwnedFd,
        /// Written by the program.
        stderr: OwnedFd,
    },
    /// A terminal of the container's own devpts; its master side is reported to the parent.
    Terminal {
        /// Rows, where known.
        rows: u16,
        /// Columns, where known.
        columns: u16,
    },
}

/// Gives pipes and terminals among the standard streams to the user of the program, who could
/// not open `/dev/stdout` by its name otherwise. The null device is everybody's.
pub(super) fn give_to(user: u32) -> Result<(), Error> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let stat = fstat(stream).during("inspect", "standard streams")?;
        let is_pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        if (is_pipe || rustix::termios::isatty(stream)) && stat.st_uid != user {
            fchown(stream.as_fd(), Some(Uid::from_raw(user)), None)
                .during("give to the user", "standard streams")?;
        }
    }
    Ok(())
}

/// Gives pipes to the user of the program, by its id on the host, while that can be done.
pub(super) fn give_pipes_to(stdio: &ChildStdio, user: u32) -> Result<(), Error> {
    let ChildStdio::Streams { stdin, stdout, stderr } = stdio else { return Ok(()) };
    for stream in stdin.iter().chain([stdout, stderr]) {
        let stat = fstat(stream).during("inspect", "standard streams")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            fchown(stream.as_fd(), Some(Uid::from_raw(user)), None)
                .during("give to the user", "standard streams")?;
        }
    }
    Ok(())
}

/// Makes these the standard streams, in the root of the container.
///
/// A null device among them is the host's: whoever holds it could change owner and mode of
/// that file, for the whole node. The container's own takes its place.
pub(super) fn install(
    stdin: Option<&OwnedFd>,
    stdout: &OwnedFd,
    stderr: &OwnedFd,
    label: Option<&str>,
) -> Result<(), Error> {
    let inside = |stream: Option<&OwnedFd>| match stream {
        Some(stream) if !is_null(stream.as_fd())? => stream.try_clone().during("keep", "stream"),
        _ => own_null(label),
    };
    rustix::stdio::dup2_stdin(inside(stdin)?).during("install", "stdin")?;
    rustix::stdio::dup2_stdout(inside(Some(stdout))?).during("install", "stdout")?;
    rustix::stdio::dup2_stderr(inside(Some(stderr))?).during("install", "stderr")
}

/// Whether this is the null device (`null(4)`), by its number and not by its name.
pub(super) fn is_null(fd: BorrowedFd<'_>) -> Result<bool, Error> {
    let stat = fstat(fd).during("inspect", "null device")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(1, 3))
}

/// The null device of the current root, or one that nobody else has where something else lies
/// at its place.
fn own_null(label: Option<&str>) -> Result<OwnedFd, Error> {
    let root = detached::root_directory()?;
    let open = |flags| Root::new(root.as_fd()).open_without_links(Path::new("/dev/null"), flags);
    // Looked at before it is opened, since the opening of other devices does things.
    if let Ok(place) = open(OFlags::PATH)
        && is_null(place.as_fd())?
        && let Ok(null) = open(OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY)
        && is_null(null.as_fd())?
    {
        rustix::io::ioctl_fionbio(&null, false).during("prepare", "null device")?;
        return Ok(null);
    }
    let options: Vec<_> = detached::context(label).into_iter().collect();
    let tree = detached::filesystem("tmpfs", Some(Path::new("tmpfs")), &options)?;
    let made = mknodat(&tree, "null", FileType::CharacterDevice, 0o666.into(), makedev(1, 3));
    made.map_err(io::Error::from)
        .and_then(|()| Ok(openat(&tree, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?))
        .during("create", "null device")
}
