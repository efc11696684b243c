//! What a worker and the daemon say to each other.
//!
//! ```text
//! worker                      daemon
//!   ── filled (bytes) ──────►    the next slot of the ring
//!   ◄────────────── emptied ──   the oldest one may be filled again
//!   ── window (bytes) ──────►    before a decompressor is made that needs so much
//!   ◄────────────── granted ──
//!   ── done ────────────────►    all of the input was read, and handed over
//!   ── failed (why) ────────►    instead
//! ```
//!
//! A worker may have been taken over by what it reads: whatever it says is checked.

use std::io;

use super::super::decode::WindowTooLarge;

/// The longest message.
pub(super) const LONGEST: usize = 256;

/// What is kept of a reason.
const REASON: usize = 200;

/// A message of the worker.
#[derive(Debug)]
pub(super) enum Word {
    Filled(u64),
    Window(u64),
    Done,
    Failed(io::Error),
}

/// Messages of the daemon.
pub(super) const EMPTIED: &[u8] = b"E";
pub(super) const GRANTED: &[u8] = b"G";

impl Word {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (tag, number, text) = match self {
            Word::Filled(bytes) => (b'F', *bytes, String::new()),
            Word::Window(bytes) => (b'W', *bytes, String::new()),
            Word::Done => (b'D', 0, String::new()),
            Word::Failed(error) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                match inner {
                    Some(WindowTooLarge(size)) => (b'L', *size, String::new()),
                    None if error.kind() == io::ErrorKind::FileTooLarge => (b'B', 0, String::new()),
                    None => (b'X', 0, error.to_string()),
                }
            }
        };
        let text = text.bytes().take(REASON);
        [tag].into_iter().chain(number.to_le_bytes()).chain(text).collect()
    }

    /// None for what is no message.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let (number, text) = rest.split_first_chunk()?;
        let number = u64::from_le_bytes(*number);
        Some(match tag {
            b'F' => Word::Filled(number),
            b'W' => Word::Window(number),
            b'D' => Word::Done,
            b'L' => Word::Failed(io::Error::other(WindowTooLarge(number))),
            b'B' => Word::Failed(io::ErrorKind::FileTooLarge.into()),
            b'X' => {
                let text: String = String::from_utf8_lossy(text)
                    .chars()
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect();
                Word::Failed(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{LONGEST, Word};
    use crate::image::stream::decode::WindowTooLarge;

    fn again(error: io::Error) -> io::Error {
        let bytes = Word::Failed(error).to_bytes();
        assert!(bytes.len() <= LONGEST);
        match Word::parse(&bytes) {
            Some(Word::Failed(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_keep_their_meaning() {
        let error = again(io::Error::other(WindowTooLarge(7 << 20)));
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<WindowTooLarge>());
        assert_eq!(inner.map(|window| window.0), Some(7 << 20));
        assert_eq!(again(io::ErrorKind::FileTooLarge.into()).kind(), io::ErrorKind::FileTooLarge);
        let error = again(io::Error::other("one\nline ".repeat(100)));
        assert!(error.to_string().starts_with("one line one line"), "{error}");
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [&b""[..], b"F", b"F1234567", b"?12345678"] {
            assert!(Word::parse(bytes).is_none(), "{bytes:?}");
        }
        assert!(matches!(Word::parse(&Word::Filled(5).to_bytes()), Some(Word::Filled(5))));
        assert!(matches!(Word::parse(&Word::Window(6).to_bytes()), Some(Word::Window(6))));
        assert!(matches!(Word::parse(&Word::Done.to_bytes()), Some(Word::Done)));
    }
}
