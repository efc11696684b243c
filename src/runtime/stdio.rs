//! Standard streams of a container's process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Uid, fchown, fstat};

use super::error::{During, Error};

/// What the child makes its descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum ChildStdio {
    /// One descriptor for each stream.
    Streams {
        /// Read by the program.
        stdin: OwnedFd,
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

pub(super) fn install(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Error> {
    rustix::stdio::dup2_stdin(stdin).during("install", "stdin")?;
    rustix::stdio::dup2_stdout(stdout).during("install", "stdout")?;
    rustix::stdio::dup2_stderr(stderr).during("install", "stderr")
}
