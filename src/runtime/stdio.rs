//! Standard streams of a container's process.

use std::os::fd::OwnedFd;

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

pub(super) fn install(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Error> {
    rustix::stdio::dup2_stdin(stdin).during("install", "stdin")?;
    rustix::stdio::dup2_stdout(stdout).during("install", "stdout")?;
    rustix::stdio::dup2_stderr(stderr).during("install", "stderr")
}
