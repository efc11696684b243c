//! What a child tells its parent between its birth and its program.
//!
//! ```text
//! child                       parent
//!   ── terminal (descriptor) ──►    only with a terminal
//!   ── listener (descriptor) ──►    only with a filter that tells what it refuses
//!   ── ready ──────────────────►    every step is done, execve comes next
//!   (execve closes the socket) ►    end of file after ready: the program runs
//!   ── failed (kind, message) ─►    instead, from any step, execve included
//! ```
//!
//! An end of file without `ready` means that the child was killed on its way.
//!
//! A child that is only the helper of another one (`inside`) hands the parent a second socket
//! over, and closes its own; the other one reports there, and the kernel says who it is: it
//! lives among strangers, who may have got hold of its socket.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::process::Pid;

use super::error::Error;
use crate::{
    kind::Kind,
    sys::{exception::Exception, socket},
};

/// The longest message; a longer one is cut.
const MAX_MESSAGE: usize = 4096;

const TERMINAL: u8 = b'T';
const HANDED_OVER: u8 = b'H';
const LISTENER: u8 = b'L';
const READY: u8 = b'R';
const FAILED: u8 = b'F';

/// A message of the child.
#[derive(Debug)]
pub enum Report {
    /// The master side of the container's terminal.
    Terminal(OwnedFd),
    /// Where the kernel tells what the process's filter refuses.
    Listener(OwnedFd),
    /// The socket where the process reports that goes on.
    HandedOver(OwnedFd),
    /// `execve` comes next.
    Ready,
    /// The child gave up.
    Failed(Error),
    /// The socket is closed.
    End,
}

/// The child's end.
#[derive(Debug)]
pub struct Reporter(OwnedFd);

impl Reporter {
    /// A reporter and the descriptor that [`receive`] reads.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (child, parent) = socket::pair()?;
        Ok((Self(child), parent))
    }

    pub(super) fn terminal(&self, master: BorrowedFd<'_>) -> io::Result<()> {
        socket::send(self.0.as_fd(), &[TERMINAL], &[master])
    }

    /// Behind a filter already.
    pub(super) fn listener(&self, exception: &Exception, fd: BorrowedFd<'_>) -> io::Result<()> {
        exception.send(self.0.as_fd(), LISTENER, fd)
    }

    /// A reporter for the process that goes on, of whose messages the kernel says who has sent
    /// them (`SO_PASSCRED` of unix(7)).
    pub(super) fn hand_over_to_another(&self) -> io::Result<Self> {
        let (other, parent) = Self::pair()?;
        rustix::net::sockopt::set_socket_passcred(&parent, true)?;
        socket::send(self.0.as_fd(), &[HANDED_OVER], &[parent.as_fd()])?;
        Ok(other)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn ready(&self) -> io::Result<()> {
        self.write(&[READY])
    }

    pub(super) fn failed(&self, error: &Error) {
        let mut message = vec![FAILED, byte_of(error.kind())];
        message.extend(error.full_message().bytes().take(MAX_MESSAGE));
        // Without a reader nobody wants to know.
        let _ = self.write(&message);
    }

    /// `write(2)`, which a seccomp filter that is loaded already is sure to let through.
    /// SIGPIPE is at its default: without a reader the child ends here.
    fn write(&self, message: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.0, message).map(drop).map_err(io::Error::from)
    }
}

/// The next message of the child, and who has sent it where the kernel says so.
///
/// # Errors
/// `WouldBlock` where there is none yet; `InvalidData` for a message that is none.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Report, Option<Pid>)> {
    let mut buffer = [0; MAX_MESSAGE + 2];
    let (length, mut fds, sender) = socket::receive_from(socket, &mut buffer)?;
    let report = match (&buffer[..length], fds.pop()) {
        ([], _) => Report::End,
        ([TERMINAL], Some(master)) => Report::Terminal(master),
        ([LISTENER], Some(listener)) => Report::Listener(listener),
        ([HANDED_OVER], Some(socket)) => Report::HandedOver(socket),
        ([READY], None) => Report::Ready,
        ([FAILED, kind, message @ ..], None) => {
            let message = String::from_utf8_lossy(message).into_owned();
            Report::Failed(Error::Child { kind: kind_of(*kind), message })
        }
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "unknown message of a child")),
    };
    Ok((report, sender))
}

/// The kinds that the runtime's errors have.
const KINDS: [Kind; 6] = [
    Kind::Internal,
    Kind::InvalidArgument,
    Kind::FailedPrecondition,
    Kind::ResourceExhausted,
    Kind::Unimplemented,
    Kind::DeadlineExceeded,
];

fn byte_of(kind: Kind) -> u8 {
    KINDS.iter().position(|&known| known == kind).unwrap_or(0) as u8
}

fn kind_of(byte: u8) -> Kind {
    KINDS.get(usize::from(byte)).copied().unwrap_or(Kind::Internal)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::{Report, Reporter, receive};
    use crate::{kind::Kind, runtime::Error};

    #[test]
    fn a_failure_keeps_kind_and_words() {
        let (reporter, socket) = Reporter::pair().unwrap();
        reporter.failed(&Error::spec("process.cwd", "must be absolute"));
        let (Report::Failed(error), None) = receive(socket.as_fd()).unwrap() else {
            panic!("no failure")
        };
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert_eq!(error.to_string(), "process.cwd: must be absolute");
        drop(reporter);
        assert!(matches!(receive(socket.as_fd()).unwrap().0, Report::End));
    }
}
