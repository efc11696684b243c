//! Messages with descriptors over Unix sockets that keep message borders.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, fchmod, openat};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recvmsg, sendmsg, socket_with, socketpair,
};
use rustix::process::Pid;

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

/// The longest path that an address holds (`sun_path` of unix(7), which ends with a zero byte).
const LONGEST_PATH: usize = 107;

/// More than any daemon that is started again and again leaves behind before a monitor that
/// was stopped gets to it.
const BACKLOG: i32 = 128;

/// A listening socket at `path`, which must not exist, for its owner alone.
///
/// # Errors
/// Those of `socket(2)`, `bind(2)` and `listen(2)`.
pub fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let socket = seqpacket()?;
    make_private(&socket)?;
    with_address(path, |address| Ok(bind(&socket, address)?))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The same for a stream of bytes.
///
/// # Errors
/// Those of `socket(2)`, `bind(2)` and `listen(2)`.
#[cfg(feature = "daemon")]
pub fn listen_privately(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    make_private(&socket)?;
    with_address(path, |address| Ok(bind(&socket, address)?))?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// The file of a socket has the mode that the socket has when it is bound: at no moment can
/// anybody but the owner connect.
fn make_private(socket: &OwnedFd) -> io::Result<()> {
    Ok(fchmod(socket, Mode::from_raw_mode(0o600))?)
}

/// A connection to the socket at `path`.
///
/// # Errors
/// Those of `socket(2)` and `connect(2)`; `ConnectionRefused` where nobody listens,
/// `WouldBlock` where too many wait to be heard.
pub fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let socket = seqpacket()?;
    with_address(path, |address| Ok(connect(&socket, address)?))?;
    Ok(socket)
}

/// A path that is too long for an address is reached through its directory's descriptor.
fn with_address(path: &Path, call: impl Fn(&SocketAddrUnix) -> io::Result<()>) -> io::Result<()> {
    if path.as_os_str().len() <= LONGEST_PATH {
        return call(&SocketAddrUnix::new(path)?);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, parent, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    call(&SocketAddrUnix::new(short)?)
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
    receive_from(socket, buffer).map(|(length, fds, _)| (length, fds))
}

/// The same, with who has sent it, where the socket was told to say so (`SO_PASSCRED`).
///
/// # Errors
/// Those of [`receive`].
pub fn receive_from(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>, Option<Pid>)> {
    const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1));
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let result = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let (mut fds, mut sender) = (Vec::new(), None);
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(more) => fds.extend(more),
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
            _ => {}
        }
    }
    if result.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    Ok((result.bytes, fds, sender))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::fd::{AsFd, AsRawFd},
    };

    use super::{connect_to, listen_at, pair, receive, send};

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

    #[test]
    fn a_path_of_any_length_can_be_listened_at() {
        let directory = tempfile::tempdir().unwrap();
        for length in [1, 40, 200] {
            let parent = directory.path().join("d".repeat(length)).join("e".repeat(length));
            std::fs::create_dir_all(&parent).unwrap();
            let path = parent.join("m");
            let absent = connect_to(&path).unwrap_err();
            assert_eq!(absent.kind(), std::io::ErrorKind::NotFound, "{length}");
            let listener = listen_at(&path).unwrap();
            drop(connect_to(&path).unwrap());
            drop(listener);
            let refused = connect_to(&path).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{length}");
        }
    }
}
