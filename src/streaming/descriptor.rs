//! Pipes and terminals of a process, read and written without blocking a thread.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
};

/// Where the output of a process is read: a pipe, or the master side of a terminal.
pub struct Source(pipe::Receiver);

impl Source {
    /// Reads from a descriptor.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(fd)?))
    }

    /// Reads what there is; 0 at the end.
    ///
    /// # Errors
    /// Those of `read(2)`: `EIO` when the last program has closed the terminal.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).await
    }

    /// Reads what there is now.
    ///
    /// # Errors
    /// Those of [`Source::read`], and `WouldBlock` where there is nothing.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // The runtime may not have heard yet that there is something, and would not look.
        Ok(rustix::io::read(self.0.as_fd(), buffer)?)
    }
}

/// Where the input of a process is written: a pipe, or the master side of a terminal.
pub struct Sink(pipe::Sender);

impl Sink {
    /// Writes to a descriptor.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(pipe::Sender::from_owned_fd_unchecked(fd)?))
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// Those of `write(2)`: `EPIPE` where nobody reads.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }
}
