//! What is sent to a client on a stream, whatever protocol carries it.

use super::{spdy, websocket};

/// Nobody reads what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// What is sent to a client on a stream.
pub enum Outgoing {
    /// A stream of a SPDY session.
    Spdy(spdy::Outgoing),
    /// A channel of a WebSocket.
    WebSocket(websocket::Outgoing),
}

impl Outgoing {
    /// Sends all of a chunk.
    ///
    /// # Errors
    /// [`Closed`] when nobody reads it.
    pub async fn send(&self, chunk: &mut Chunk) -> Result<(), Closed> {
        match self {
            Outgoing::Spdy(outgoing) => outgoing.send(chunk).await,
            Outgoing::WebSocket(outgoing) => outgoing.send(chunk).await,
        }
    }

    /// Sends a short text and says that nothing follows. A client that is gone is not missed.
    pub async fn send_last(self, text: &str) {
        if text.is_empty() || self.send(&mut Chunk::from(text)).await.is_ok() {
            let _ = self.finish().await;
        }
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// [`Closed`] when nobody wants to know, or the protocol cannot say it.
    pub async fn finish(self) -> Result<(), Closed> {
        match self {
            Outgoing::Spdy(outgoing) => outgoing.finish().await,
            // The protocol has no word for it; the end of the session tells.
            Outgoing::WebSocket(_) => Err(Closed),
        }
    }

    /// Gives the stream up in both directions.
    pub async fn reset(self) {
        if let Outgoing::Spdy(outgoing) = self {
            outgoing.reset().await;
        }
    }
}

/// Bytes to send, with room before them, so that what a protocol puts there needs no copy.
#[derive(Debug)]
pub struct Chunk {
    buffer: Vec<u8>,
    length: usize,
}

/// The room before the bytes: a frame's head.
const ROOM: usize = spdy::frame::HEAD;

impl Chunk {
    /// An empty chunk for at most so many bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: vec![0; ROOM + capacity], length: 0 }
    }

    /// Where its bytes are read into; [`Chunk::fill`] says how many there are.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[ROOM..]
    }

    /// So many bytes of its space count from now on.
    pub fn fill(&mut self, length: usize) {
        self.length = length.min(self.buffer.len() - ROOM);
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[ROOM..ROOM + self.length]
    }

    /// `length` bytes from `start` on with a head before them. What was before them is lost.
    pub fn with_head<const N: usize>(
        &mut self,
        start: usize,
        length: usize,
        head: [u8; N],
    ) -> &[u8] {
        let begin = ROOM + start - N;
        self.buffer[begin..begin + N].copy_from_slice(&head);
        &self.buffer[begin..ROOM + start + length]
    }
}

impl From<&str> for Chunk {
    fn from(text: &str) -> Self {
        let mut chunk = Self::with_capacity(text.len());
        chunk.space().copy_from_slice(text.as_bytes());
        chunk.fill(text.len());
        chunk
    }
}
