//! Clients that send the path of the socket as `:authority`.
//!
//! Those on gRPC's C core (Python, C++, Ruby, PHP) percent-encode it, others send it as it is;
//! neither is an authority by RFC 3986, and `h2` resets such a stream without asking anybody.
//! It has no setting for that, so that the bytes are mended before it sees them: in the header
//! blocks of such a client each byte that has no place in a host name becomes a dash. Lengths
//! stay as they are, also in the tables that both sides keep of headers (HPACK, RFC 7541), so
//! that there is nothing to decode and nothing to encode again.
//!
//! The first request of a connection decides: a client with an authority that is one is never
//! looked at again.

mod block;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tonic::transport::server::{Connected, UdsConnectInfo};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length (3), type, flags, stream (4).
const FRAME_HEADER: usize = 9;

const HEADERS: u8 = 1;

/// The longest frame that is held to be mended: the most that `h2` takes unless it is told to
/// take more.
const MAX_FRAME: usize = 16 * 1024;

const CHUNK: usize = 4096;

/// A connection of a client.
#[derive(Debug)]
pub(super) struct Mended {
    stream: UnixStream,
    frames: Option<Frames>,
}

impl Mended {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, frames: Some(Frames::default()) }
    }
}

/// What a client sends, frame by frame.
#[derive(Debug, Default)]
struct Frames {
    /// How much of the preface has passed.
    preface: usize,
    /// What is left of a frame that passes as it is.
    passing: usize,
    /// The beginning of a frame, or all that is there yet of one that is looked at.
    held: Vec<u8>,
    /// What may be read.
    ready: Vec<u8>,
    /// How much of that has been.
    taken: usize,
    /// Whether there is nothing to mend here any more.
    is_done: bool,
    /// Whether there was something to mend.
    is_mending: bool,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.is_done {
                self.ready.extend_from_slice(bytes);
                return;
            }
            let length = self.step(bytes);
            bytes = &bytes[length..];
        }
    }

    /// Takes the beginning of some bytes, and returns how many.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if let Some(&expected) = PREFACE.get(self.preface) {
            self.preface += 1;
            self.ready.push(bytes[0]);
            self.is_done = bytes[0] != expected;
            return 1;
        }
        if self.passing > 0 {
            let length = self.passing.min(bytes.len());
            self.ready.extend_from_slice(&bytes[..length]);
            self.passing -= length;
            return length;
        }
        let wanted = match self.held.get(..FRAME_HEADER) {
            None => FRAME_HEADER,
            Some(header) => FRAME_HEADER + payload_of(header),
        };
        let length = (wanted - self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..length]);
        self.look();
        length
    }

    /// Looks at what is held of a frame.
    fn look(&mut self) {
        let Some(header) = self.held.get(..FRAME_HEADER) else { return };
        let (payload, kind) = (payload_of(header), header[3]);
        if kind != HEADERS || payload > MAX_FRAME {
            self.passing = payload;
            self.ready.append(&mut self.held);
        } else if self.held.len() == FRAME_HEADER + payload {
            let flags = header[4];
            let was_mended = block::mend(flags, &mut self.held[FRAME_HEADER..]);
            self.is_mending |= was_mended;
            self.is_done = !self.is_mending;
            self.ready.append(&mut self.held);
        }
    }
}

fn payload_of(header: &[u8]) -> usize {
    usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2])
}

impl AsyncRead for Mended {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let Some(frames) = &mut this.frames else {
                return Pin::new(&mut this.stream).poll_read(context, buffer);
            };
            let left = &frames.ready[frames.taken..];
            if !left.is_empty() {
                let length = left.len().min(buffer.remaining());
                buffer.put_slice(&left[..length]);
                frames.taken += length;
                return Poll::Ready(Ok(()));
            }
            if frames.is_done {
                this.frames = None;
                continue;
            }
            frames.ready.clear();
            frames.taken = 0;
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            frames.feed(chunk.filled());
        }
    }
}

impl AsyncWrite for Mended {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Mended {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, PREFACE};

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u8;
        [&[0, 0, length, kind, 4, 0, 0, 0, 1], payload].concat()
    }

    fn headers(authority: &[u8]) -> Vec<u8> {
        frame(1, &[&[0x83, 0x41, authority.len() as u8], authority].concat())
    }

    /// What comes out of what is sent in pieces of this size, and whether the rest would pass.
    fn through(sent: &[u8], size: usize) -> (Vec<u8>, bool) {
        let mut frames = Frames::default();
        sent.chunks(size).for_each(|chunk| frames.feed(chunk));
        (frames.ready, frames.is_done)
    }

    #[test]
    fn paths_are_mended_in_all_header_blocks_and_nothing_else_is() {
        let settings = frame(4, &[0, 4, 0, 0, 255, 255]);
        let data = frame(0, b"\x41\x0f%2Ftmp%2Fx.sock!");
        let sent = [
            PREFACE,
            &settings,
            &headers(b"%2Ftmp%2Fx.sock"),
            &data,
            &headers(b"/tmp/x.sock"),
            &data,
        ]
        .concat();
        let expected = [
            PREFACE,
            &settings,
            &headers(b"-2Ftmp-2Fx.sock"),
            &data,
            &headers(b"-tmp-x.sock"),
            &data,
        ]
        .concat();
        for size in [1, 7, sent.len()] {
            assert_eq!(through(&sent, size), (expected.clone(), false), "{size}");
        }
    }

    #[test]
    fn others_are_not_looked_at_after_their_first_request() {
        let sent = [PREFACE, &headers(b"localhost"), &headers(b"%2Ftmp"), b"anything"].concat();
        assert_eq!(through(&sent, 5), (sent.clone(), true));
        // What is no HTTP/2 at all is for others to refuse.
        let sent = b"GET / HTTP/1.1\r\n\r\n";
        assert_eq!(through(sent, 4), (sent.to_vec(), true));
        // A frame that is too long as well.
        let long = [PREFACE, &[1, 0, 0, 1, 4, 0, 0, 0, 1], &[0; 90]].concat();
        assert_eq!(through(&long, 8), (long.clone(), false));
    }
}
