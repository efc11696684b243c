//! Netlink: a builder of messages and a socket that sends many of them in one call.
//!
//! The kernel works through a datagram's messages while it is being sent, so that the
//! answers lie ready when [`Socket::send`] returns; nothing here ever waits. The builder
//! knows nothing of what messages mean.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

const HEADER: usize = 16;
const FLAG_REQUEST: u16 = 0x1;
const FLAG_ACK: u16 = 0x4;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
const NESTED: u16 = 0x8000;

/// Messages that go out together.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    too_long: bool,
}

impl Messages {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024), ..Self::default() }
    }

    /// How many bytes there are.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Begins the next message with the fixed header of its family.
    pub(super) fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) {
        self.close();
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | FLAG_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.raw(header);
    }

    /// Adds bytes as they are, padded to the alignment of attributes.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute to the message begun last.
    pub(super) fn put(&mut self, kind: u16, payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.finish_attribute(start);
    }

    /// Adds a text attribute with the zero byte that the kernel expects.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// Adds an attribute that consists of attributes.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        self.finish_attribute(start);
    }

    fn finish_attribute(&mut self, start: usize) {
        match u16::try_from(self.bytes.len().saturating_sub(start)) {
            Ok(length) => self.patch(start, &length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.raw(&[]);
    }

    fn close(&mut self) {
        let Some(&start) = self.starts.last() else { return };
        match u32::try_from(self.bytes.len().saturating_sub(start)) {
            Ok(length) => self.patch(start, &length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
    }

    /// Ends the last message, numbers all of them and asks for an answer to the last
    /// that has a meaning of its own (`answered` counts from the end).
    fn seal(&mut self, first: u32, answered: usize) -> io::Result<()> {
        self.close();
        if self.too_long {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "netlink message too long"));
        }
        for (sequence, start) in (first..).zip(self.starts.clone()) {
            self.patch(start.saturating_add(8), &sequence.to_ne_bytes());
        }
        let last = self.starts.len().checked_sub(answered).and_then(|i| self.starts.get(i));
        if let Some(at) = last.map(|start| start.saturating_add(6)) {
            let flags = read_u16(&self.bytes, at).unwrap_or_default() | FLAG_ACK;
            self.patch(at, &flags.to_ne_bytes());
        }
        Ok(())
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(target) = self.bytes.get_mut(at..at.saturating_add(bytes.len())) {
            target.copy_from_slice(bytes);
        }
    }
}

/// A message that the kernel refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Why.
    pub(super) source: io::Error,
}

/// A netlink socket; it belongs to the network namespace of the thread that opens it.
#[derive(Debug)]
pub(super) struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// A socket for links, addresses and routes.
    pub(super) fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// A socket for nftables.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self { socket, sequence: 1 })
    }

    /// Sends the messages and returns the kernel's refusals; none means that all is done.
    pub(super) fn send(&mut self, messages: Messages) -> io::Result<Vec<Refusal>> {
        self.exchange(messages, 1)
    }

    /// The same for a transaction whose last message only closes it.
    pub(super) fn send_transaction(&mut self, messages: Messages) -> io::Result<Vec<Refusal>> {
        self.exchange(messages, 2)
    }

    /// Sends the messages and makes the first refusal an error.
    pub(super) fn send_all(&mut self, messages: Messages) -> io::Result<()> {
        self.send(messages)?.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.source))
    }

    fn exchange(&mut self, mut messages: Messages, answered: usize) -> io::Result<Vec<Refusal>> {
        let first = self.number(&mut messages, answered)?;
        let last = messages.starts.len().saturating_sub(answered);
        let mut refusals = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::AGAIN) => return Ok(refusals),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some((index, code)) = acknowledgement(&buffer[..length.min(4096)], first) else {
                continue;
            };
            if code != 0 {
                let source = io::Error::from_raw_os_error(code.saturating_neg());
                refusals.push(Refusal { source });
            } else if index == last && refusals.is_empty() {
                return Ok(refusals);
            }
        }
    }

    /// Sends one question and returns the bodies of the answer's messages.
    pub(super) fn ask(&mut self, question: Messages) -> io::Result<Vec<Vec<u8>>> {
        let mut answers = Vec::new();
        self.ask_each(question, |body| answers.push(body.to_vec()))?;
        Ok(answers)
    }

    /// Sends one question and looks at the bodies of the answer's messages one by one.
    pub(super) fn ask_each(
        &mut self,
        mut question: Messages,
        mut look: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let first = self.number(&mut question, 1)?;
        let mut buffer = vec![0; 65536];
        loop {
            let received = recv(&self.socket, &mut buffer[..], RecvFlags::empty());
            let length = match received {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?.0,
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, sequence, body, after)) = split_message(rest) {
                rest = after;
                match kind {
                    _ if sequence != first => {}
                    KIND_DONE => return Ok(()),
                    KIND_ERROR => {
                        return match read_i32(body, 0).unwrap_or_default() {
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    _ => look(body),
                }
            }
        }
    }

    fn number(&mut self, messages: &mut Messages, answered: usize) -> io::Result<u32> {
        let first = self.sequence;
        messages.seal(first, answered)?;
        let count = u32::try_from(messages.starts.len()).unwrap_or(u32::MAX);
        self.sequence = self.sequence.checked_add(count).unwrap_or(1);
        rustix::io::retry_on_intr(|| send(&self.socket, &messages.bytes, SendFlags::empty()))?;
        Ok(first)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The attributes of a message's body after its fixed header.
pub(super) fn attributes(body: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(rest, 0)?);
        let kind = read_u16(rest, 2)? & !NESTED;
        let payload = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn read_i32(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn split_message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(read_u32(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((read_u16(bytes, 4)?, read_u32(bytes, 8)?, body, after))
}

/// Which message an answer is about, and its code; none for an older one's answer. The
/// answer repeats the message it is about and may be cut off in the buffer.
fn acknowledgement(bytes: &[u8], first: u32) -> Option<(usize, i32)> {
    if read_u16(bytes, 4)? != KIND_ERROR {
        return None;
    }
    let index = read_u32(bytes, 8)?.checked_sub(first)?;
    Some((usize::try_from(index).ok()?, read_i32(bytes, HEADER)?))
}

#[cfg(test)]
mod tests {
    use super::{HEADER, Messages, attributes};

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let mut messages = Messages::new();
        messages.begin(16, 0, &[0; 16]);
        messages.put(3, b"abcde");
        messages.nest(18, |inner| inner.put_text(1, "veth"));
        messages.seal(7, 1).unwrap();
        let body = &messages.bytes[HEADER..];
        let found: Vec<_> = attributes(body, 16).collect();
        assert_eq!(found[0], (3, &b"abcde"[..]));
        assert_eq!(found[1].0, 18);
        assert_eq!(attributes(found[1].1, 0).collect::<Vec<_>>(), [(1, &b"veth\0"[..])]);
        let length = u32::from_ne_bytes(messages.bytes[..4].try_into().unwrap());
        assert_eq!(length as usize, messages.bytes.len());
    }

    #[test]
    fn an_attribute_that_does_not_fit_is_refused() {
        let mut messages = Messages::new();
        messages.begin(16, 0, &[]);
        messages.put(1, &vec![0; 70_000]);
        assert!(messages.seal(1, 1).is_err());
    }

    #[test]
    fn damaged_attributes_end_the_iteration() {
        assert_eq!(attributes(&[200, 0, 1, 0, 9], 0).count(), 0);
        assert_eq!(attributes(&[0, 0, 0, 0], 0).count(), 0);
    }
}
