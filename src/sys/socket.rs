//! Messages with descriptors over Unix sockets that keep message borders.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recvmsg, sendmsg, socket_with, socketpair,
};

/// The most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 8;

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// A listening socket at `path`, which must not exist.
///
/// # Errors
/// Those of `socket(2)`, `bind(2)` (`EINVAL` for a path of more than 107 bytes), `listen(2)`.
pub fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let socket = seqpacket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 16)?;
    Ok(socket)
}

/// A connection to the socket at `path`.
///
/// # Errors
/// Those of `socket(2)` and `connect(2)`; `ConnectionRefused` where nobody listens.
pub fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let socket = seqpacket()?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Two connected sockets, non-blocking and close-on-exec.
///
/// # Errors
/// Those of `socketpair(2)`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// Sends one message with descriptors.
///
/// # Errors
/// Those of `sendmsg(2)`: `WouldBlock`, `EMSGSIZE`, `EPIPE` (never the signal).
pub fn send(socket: BorrowedFd<'_>, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let flags = SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(body)], &mut control, flags))?;
    Ok(())
}

/// Receives one message into `buffer`; returns its length and descriptors. Length 0 means
/// that the other side is gone.
///
/// # Errors
/// Those of `recvmsg(2)`: `WouldBlock`; `InvalidData` for a message longer than the buffer.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let result = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if result.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    Ok((result.bytes, fds))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::fd::{AsFd, AsRawFd},
    };

    use super::{pair, receive, send};

    #[test]
    fn a_message_brings_its_descriptors() {
        let (left, right) = pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        send(left.as_fd(), b"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let (length, fds) = receive(right.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        assert_eq!(fds.len(), 1);
        assert!(fds[0].as_raw_fd() >= 0);
        drop(fds);
        let mut text = String::new();
        let mut reader = reader;
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error() {
        let (left, right) = pair().unwrap();
        send(left.as_fd(), b"hello", &[]).unwrap();
        let error = receive(right.as_fd(), &mut [0; 2]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
}
