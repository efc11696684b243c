//! Messages of any length over a socket that takes only short ones: a long one travels in a
//! sealed memfd, and the socket carries a message that says so.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use super::{MAX_MESSAGE, v1};
use crate::sys::socket;

/// The longest message that is taken out of a memfd, in bytes: the states of some 30,000
/// containers, or the devices of as many.
pub(super) const MAX_ENCLOSED: usize = 4 << 20;

/// A message of either direction.
pub(super) trait Enclosable: prost::Message + Default {
    /// The short message that stands for one of so many bytes.
    fn envelope(&self, enclosed: u64) -> Self;

    /// How long the message is that this one stands for; 0 where it is the message itself.
    fn enclosed(&self) -> u64;
}

impl Enclosable for v1::Request {
    fn envelope(&self, enclosed: u64) -> Self {
        Self { id: self.id, call: None, enclosed }
    }

    fn enclosed(&self) -> u64 {
        self.enclosed
    }
}

impl Enclosable for v1::Message {
    fn envelope(&self, enclosed: u64) -> Self {
        Self { content: None, enclosed }
    }

    fn enclosed(&self) -> u64 {
        self.enclosed
    }
}

/// A message that is ready to be sent.
pub(super) struct Packet {
    bytes: Vec<u8>,
    body: Option<OwnedFd>,
}

impl Packet {
    /// Encodes a message.
    ///
    /// # Errors
    /// Those of `memfd_create(2)` and of writing to it; `FileTooLarge` for one that the other
    /// side would not take.
    pub(super) fn of<M: Enclosable>(message: &M) -> io::Result<Self> {
        let bytes = message.encode_to_vec();
        if bytes.len() <= MAX_MESSAGE {
            return Ok(Self { bytes, body: None });
        }
        if bytes.len() > MAX_ENCLOSED {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let body = sealed("criquet-message", &bytes)?;
        let envelope = message.envelope(bytes.len() as u64);
        Ok(Self { bytes: envelope.encode_to_vec(), body: Some(body) })
    }

    /// Sends it with descriptors.
    ///
    /// # Errors
    /// Those of [`socket::send`].
    pub(super) fn send(&self, socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        match &self.body {
            None => socket::send(socket, &self.bytes, fds),
            Some(body) => {
                let fds: Vec<_> = [body.as_fd()].into_iter().chain(fds.iter().copied()).collect();
                socket::send(socket, &self.bytes, &fds)
            }
        }
    }
}

/// Decodes what was received, and takes it out of the first of the descriptors that came with
/// it where it is there.
///
/// # Errors
/// `InvalidData` for what is no message.
pub(super) fn open<M: Enclosable>(bytes: &[u8], fds: &mut Vec<OwnedFd>) -> io::Result<M> {
    let message = M::decode(bytes).map_err(invalid)?;
    if message.enclosed() == 0 {
        return Ok(message);
    }
    if fds.is_empty() {
        return Err(invalid("a message came without its body"));
    }
    let body = read_sealed(fds.remove(0), message.enclosed())?;
    let inner = M::decode(body.as_slice()).map_err(invalid)?;
    if inner.enclosed() != 0 {
        return Err(invalid("a message is enclosed twice"));
    }
    Ok(inner)
}

/// A file in memory that nobody can change.
///
/// # Errors
/// Those of the calls.
pub(super) fn sealed(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create(name, flags)?);
    (&file).write_all(content)?;
    seal(&file)?;
    Ok(file.into())
}

/// The kernel refuses to seal memory whose pages somebody holds, which it may do itself for a
/// moment: when it moves them, or looks how old they are. It waits for the sixth part of a second
/// before it says so (`memfd_wait_for_pins` of `mm/memfd.c`).
fn seal(file: &File) -> io::Result<()> {
    const TRIES: u32 = 8;
    for _ in 1..TRIES {
        match fcntl_add_seals(file, SealFlags::SEAL | FIXED) {
            Err(rustix::io::Errno::BUSY) => {}
            sealed => return Ok(sealed?),
        }
    }
    Ok(fcntl_add_seals(file, SealFlags::SEAL | FIXED)?)
}

const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// Reads such a file. Only a file in memory has seals, and none keeps its reader waiting.
fn read_sealed(file: OwnedFd, length: u64) -> io::Result<Vec<u8>> {
    if !fcntl_get_seals(&file)?.contains(FIXED) {
        return Err(invalid("the body of a message is not sealed"));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_ENCLOSED {
        return Err(invalid("a message is too long"));
    }
    let mut bytes = vec![0; length];
    File::from(file).read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::{MAX_ENCLOSED, Packet, open};
    use crate::{
        monitor::{MAX_MESSAGE, v1},
        sys::socket,
    };

    fn request(length: usize) -> v1::Request {
        let update = v1::Update { container: "c".repeat(length), resources: Vec::new() };
        let call = Some(v1::request::Call::Update(update));
        v1::Request { id: 7, call, enclosed: 0 }
    }

    /// What the other side of a socket makes of a message.
    fn received(packet: &Packet) -> (v1::Request, usize) {
        let (ours, theirs) = socket::pair().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        packet.send(ours.as_fd(), &[reader.as_fd()]).unwrap();
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, mut fds) = socket::receive(theirs.as_fd(), &mut buffer).unwrap();
        (open(&buffer[..length], &mut fds).unwrap(), fds.len())
    }

    #[test]
    fn a_message_of_any_length_arrives_with_its_descriptors() {
        for length in [0, 100, MAX_MESSAGE - 100, MAX_MESSAGE, 1 << 20] {
            let sent = request(length);
            assert_eq!(received(&Packet::of(&sent).unwrap()), (sent, 1), "{length}");
        }
        assert!(Packet::of(&request(MAX_ENCLOSED)).is_err());
    }

    #[test]
    fn a_body_that_could_change_or_wait_is_refused() {
        use prost::Message as _;
        let envelope = |enclosed| v1::Request { id: 1, call: None, enclosed }.encode_to_vec();
        let (pipe, _writer) = std::io::pipe().unwrap();
        let unsealed = memfd_create("x", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        for body in [OwnedFd::from(pipe), unsealed] {
            assert!(open::<v1::Request>(&envelope(1), &mut vec![body]).is_err());
        }
        let inner = envelope(9);
        for (content, length) in [(&b""[..], 1), (b"", u64::MAX), (&inner, inner.len() as u64)] {
            let body = super::sealed("x", content).unwrap();
            assert!(open::<v1::Request>(&envelope(length), &mut vec![body]).is_err());
        }
        assert!(open::<v1::Request>(&envelope(1), &mut Vec::new()).is_err());
    }
}
