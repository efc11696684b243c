//! The channel protocol: each message begins with the number of a channel.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tokio_tungstenite::tungstenite::{Bytes as Payload, Message};

use crate::streaming::channel::Chunk;

/// The first byte of the message that closes a channel, in version 5.
const CLOSE: u8 = 255;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// A byte with the number, then the bytes.
    Binary,
    /// A digit, then the bytes in base64.
    Base64,
}

/// What a client says in a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes on a channel.
    Data(u8, Bytes),
    /// Nothing follows on a channel.
    Close(u8),
}

/// A message that means nothing in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation;

impl Codec {
    /// What a message says; `None` for one that says nothing. `closes`: whether the version
    /// can close a channel.
    ///
    /// # Errors
    /// [`Violation`], after which the session ends.
    pub fn decode(self, closes: bool, message: Bytes) -> Result<Option<Event>, Violation> {
        let Some((&first, rest)) = message.split_first() else { return Ok(None) };
        match self {
            Codec::Binary if closes && first == CLOSE => match rest {
                [channel] => Ok(Some(Event::Close(*channel))),
                _ => Err(Violation),
            },
            Codec::Binary => Ok(Some(Event::Data(first, message.slice(1..)))),
            Codec::Base64 => {
                let channel = first.checked_sub(b'0').ok_or(Violation)?;
                let bytes = STANDARD.decode(rest).map_err(|_| Violation)?;
                Ok(Some(Event::Data(channel, bytes.into())))
            }
        }
    }

    /// The message with a chunk for a channel.
    pub fn encode(self, channel: u8, chunk: &mut Chunk) -> Message {
        match self {
            Codec::Binary => {
                let length = chunk.len();
                Message::Binary(Payload::copy_from_slice(chunk.with_head(0, length, [channel])))
            }
            Codec::Base64 => {
                let mut text = String::with_capacity(1 + chunk.len().div_ceil(3) * 4);
                text.push(char::from(b'0' + channel));
                STANDARD.encode_string(chunk.bytes(), &mut text);
                Message::text(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Codec, Event, Violation};
    use crate::streaming::channel::Chunk;

    #[test]
    fn messages_are_read() {
        let data = |channel, text: &'static str| Ok(Some(Event::Data(channel, text.into())));
        for (codec, closes, message, expected) in [
            (Codec::Binary, false, &b"\x00ls\n"[..], data(0, "ls\n")),
            (Codec::Binary, false, b"\xff\x00", data(255, "\0")),
            (Codec::Binary, true, b"\xff\x00", Ok(Some(Event::Close(0)))),
            (Codec::Binary, true, b"\xff", Err(Violation)),
            (Codec::Binary, true, b"", Ok(None)),
            (Codec::Base64, false, b"0bHMK", data(0, "ls\n")),
            (Codec::Base64, false, b"4", data(4, "")),
            (Codec::Base64, false, b"0bHM=", data(0, "ls")),
            (Codec::Base64, false, b"0bHM", Err(Violation)),
            (Codec::Base64, false, b"0b!", Err(Violation)),
            (Codec::Base64, false, b"\x00bHMK", Err(Violation)),
        ] {
            let message = bytes::Bytes::from_static(message);
            let shown = format!("{codec:?} {message:?}");
            assert_eq!(codec.decode(closes, message), expected, "{shown}");
        }
    }

    #[test]
    fn messages_are_written() {
        let written = |codec: Codec| codec.encode(2, &mut Chunk::from("ls\n")).into_data();
        assert_eq!(&written(Codec::Binary)[..], b"\x02ls\n");
        assert_eq!(&written(Codec::Base64)[..], b"2bHMK");
    }
}
