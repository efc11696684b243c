//! What a client can do wrong in a session of frames.

use thiserror::Error;

/// A violation after which a session cannot go on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A control frame of another version.
    #[error("a control frame has version {0}, not 3")]
    Version(u16),
    /// A control frame that is longer than any that a client needs.
    #[error("a control frame has {0} bytes")]
    TooLong(usize),
    /// A control frame that does not have the length or flags of its type.
    #[error("a control frame of type {0} is malformed")]
    Malformed(u16),
    /// A frame for stream 0, where that means nothing.
    #[error("a frame belongs to no stream")]
    NoStream,
    /// A stream with an id that is even, or lower than the one before.
    #[error("stream {0} is out of order")]
    Order(u32),
    /// A window that grows past 2 GiB.
    #[error("the window of stream {0} overflows")]
    Window(u32),
    /// A block of headers that ends the common context.
    #[error("a block of headers {0}")]
    Compression(&'static str),
    /// The daemon ends.
    #[error("the daemon ends")]
    Stopped,
}
