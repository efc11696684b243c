//! Frames and how they are written (SPDY/3.1, section 2.2). [`super::decoder`] reads them.

use bytes::Bytes;

use super::headers::Headers;

/// The bytes before the payload of every frame.
pub const HEAD: usize = 8;

/// Types of control frames.
pub(super) const SYN_STREAM: u16 = 1;
pub(super) const SYN_REPLY: u16 = 2;
pub(super) const RST_STREAM: u16 = 3;
pub(super) const SETTINGS: u16 = 4;
pub(super) const PING: u16 = 6;
pub(super) const GOAWAY: u16 = 7;
pub(super) const HEADERS: u16 = 8;
pub(super) const WINDOW_UPDATE: u16 = 9;

/// The flag of a sender's last frame on a stream.
pub(super) const FIN: u8 = 1;
/// The setting with the window that each stream starts with.
pub(super) const INITIAL_WINDOW_SIZE: u32 = 7;

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its headers are wrong.
    ProtocolError = 1,
    /// It is not known, or closed.
    InvalidStream = 2,
    /// It is one too many, or not wanted.
    Refused = 3,
    /// It is not wanted any more.
    Cancel = 5,
    /// Its reader does not keep up, and holds up the others.
    FlowControl = 7,
}

/// What the other side sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A new stream; without headers where they are wrong.
    Open {
        /// The stream.
        id: u32,
        /// Nothing else comes on it.
        fin: bool,
        /// What names it.
        headers: Option<Headers>,
    },
    /// The stream that this side opened is accepted.
    Reply {
        /// The stream.
        id: u32,
        /// Nothing comes on it.
        fin: bool,
    },
    /// A stream is over in both directions.
    Reset {
        /// The stream.
        id: u32,
    },
    /// The window that new streams start with.
    InitialWindow(u32),
    /// To be sent back.
    Ping(u32),
    /// No stream will follow.
    GoAway,
    /// More bytes may be sent, on a stream or, with 0, on all of them together.
    Window {
        /// The stream.
        id: u32,
        /// How many.
        delta: u32,
    },
    /// The next part of a stream's data.
    Data {
        /// The stream.
        id: u32,
        /// A part of a frame, as it arrived.
        bytes: Bytes,
        /// Nothing else comes on it.
        fin: bool,
    },
    /// Something that needs no answer.
    Other,
}

/// The head of a data frame.
pub fn data(id: u32, length: usize, fin: bool) -> [u8; HEAD] {
    head(id, if fin { FIN } else { 0 }, length)
}

/// A new stream with a compressed block of headers.
pub fn open(id: u32, block: &[u8]) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    // No associated stream, the highest priority, no slot.
    payload.extend([0; 6]);
    payload.extend_from_slice(block);
    control(SYN_STREAM, 0, &payload)
}

pub(super) fn reply(id: u32, block: &[u8]) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend_from_slice(block);
    control(SYN_REPLY, 0, &payload)
}

/// The end of a stream in both directions.
pub fn reset(id: u32, status: Status) -> Vec<u8> {
    control(RST_STREAM, 0, &numbers([id, status as u32]))
}

/// A question that is sent back as it is.
pub fn ping(id: u32) -> Vec<u8> {
    control(PING, 0, &id.to_be_bytes())
}

/// The end of the session; `last` is the last stream that was accepted.
pub fn go_away(last: u32) -> Vec<u8> {
    control(GOAWAY, 0, &numbers([last, 0]))
}

/// Allows the other side to send more.
pub fn window_update(id: u32, delta: u32) -> Vec<u8> {
    control(WINDOW_UPDATE, 0, &numbers([id, delta]))
}

/// Sets the window that each stream starts with.
pub fn initial_window(size: u32) -> Vec<u8> {
    control(SETTINGS, 0, &numbers([1, INITIAL_WINDOW_SIZE, size]))
}

fn numbers<const N: usize>(numbers: [u32; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let first = 0x8003_0000 | u32::from(kind);
    let mut frame = head(first, flags, payload.len()).to_vec();
    frame.extend_from_slice(payload);
    frame
}

fn head(first: u32, flags: u8, length: usize) -> [u8; HEAD] {
    let second = u32::from(flags) << 24 | (length as u32 & 0xff_ffff);
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&first.to_be_bytes());
    head[4..].copy_from_slice(&second.to_be_bytes());
    head
}
