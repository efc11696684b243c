//! From bytes to frames. Control frames are read whole and are short; the data of a stream is
//! handed on as it comes, however long its frame says it is.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    error::Error,
    frame::{
        FIN, Frame, GOAWAY, HEAD, HEADERS, INITIAL_WINDOW_SIZE, PING, RST_STREAM, SETTINGS,
        SYN_REPLY, SYN_STREAM, WINDOW_UPDATE,
    },
    headers::Inflater,
};
use crate::streaming::transport::READ_BUFFER;

/// The longest control frame, in bytes.
const MAX_CONTROL: usize = 16 * 1024;

/// The version of control frames; that of the session, 3.1, is told by the handshake.
const VERSION: u16 = 3;

/// Reads the frames of one direction.
#[derive(Debug)]
pub struct Decoder {
    inflater: Inflater,
    /// The data frame whose bytes are coming.
    data: Option<Data>,
}

#[derive(Debug)]
struct Data {
    id: u32,
    left: usize,
    fin: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflater: Inflater::new(), data: None }
    }
}

impl Decoder {
    /// Takes the next frame, or a part of the data of one, out of the buffer. `None` where
    /// more bytes are needed: never more than 16 KiB.
    ///
    /// # Errors
    /// What a session cannot go on after.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
        if let Some(data) = self.data.take() {
            return Ok(self.part(data, buffer));
        }
        let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let (mut first, mut second) = (&head[..4], &head[4..]);
        let (first, second) = (first.get_u32(), second.get_u32());
        let (flags, length) = ((second >> 24) as u8, (second & 0xff_ffff) as usize);
        if first >> 31 == 0 {
            if first == 0 {
                return Err(Error::NoStream);
            }
            buffer.advance(HEAD);
            return Ok(self.part(Data { id: first, left: length, fin: flags & FIN != 0 }, buffer));
        }
        let version = (first >> 16 & 0x7fff) as u16;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(Error::TooLong(length));
        }
        if buffer.len() < HEAD + length {
            return Ok(None);
        }
        buffer.advance(HEAD);
        let payload = buffer.split_to(length);
        self.control(first as u16, flags, &payload).map(Some)
    }

    fn part(&mut self, data: Data, buffer: &mut BytesMut) -> Option<Frame> {
        let Data { id, left, fin } = data;
        if left == 0 {
            return Some(Frame::Data { id, bytes: Bytes::new(), fin });
        }
        let length = left.min(buffer.len()).min(READ_BUFFER);
        let left = left - length;
        if left > 0 {
            self.data = Some(Data { id, left, fin });
        }
        (length > 0).then(|| {
            let bytes = buffer.split_to(length).freeze();
            Frame::Data { id, bytes, fin: fin && left == 0 }
        })
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: &[u8]) -> Result<Frame, Error> {
        let malformed = || Error::Malformed(kind);
        let fin = flags & FIN != 0;
        match kind {
            SYN_STREAM => {
                let id = stream(&mut payload)?.ok_or_else(malformed)?;
                // The associated stream, priority and slot mean nothing here.
                let block = payload.get(6..).ok_or_else(malformed)?;
                let headers = self.inflater.block(block)?;
                Ok(Frame::Open { id, fin, headers })
            }
            SYN_REPLY | HEADERS => {
                let id = stream(&mut payload)?.ok_or_else(malformed)?;
                self.inflater.block(payload)?;
                Ok(if kind == SYN_REPLY { Frame::Reply { id, fin } } else { Frame::Other })
            }
            RST_STREAM if payload.len() == 8 => {
                let id = stream(&mut payload)?.ok_or_else(malformed)?;
                Ok(Frame::Reset { id })
            }
            SETTINGS => settings(payload).ok_or_else(malformed),
            PING if payload.len() == 4 => Ok(Frame::Ping(payload.get_u32())),
            GOAWAY if payload.len() == 8 => Ok(Frame::GoAway),
            WINDOW_UPDATE if payload.len() == 8 => {
                let id = payload.get_u32() & 0x7fff_ffff;
                match payload.get_u32() & 0x7fff_ffff {
                    0 => Err(malformed()),
                    delta => Ok(Frame::Window { id, delta }),
                }
            }
            RST_STREAM | PING | GOAWAY | WINDOW_UPDATE => Err(malformed()),
            // Types that are not known are ignored (section 2.2.1).
            _ => Ok(Frame::Other),
        }
    }
}

/// The id that a payload begins with; `None` for one that is too short.
fn stream(payload: &mut &[u8]) -> Result<Option<u32>, Error> {
    if payload.len() < 4 {
        return Ok(None);
    }
    match payload.get_u32() & 0x7fff_ffff {
        0 => Err(Error::NoStream),
        id => Ok(Some(id)),
    }
}

fn settings(mut payload: &[u8]) -> Option<Frame> {
    let count = payload.try_get_u32().ok()?;
    if payload.len() != (count as usize).checked_mul(8)? {
        return None;
    }
    let mut frame = Frame::Other;
    while payload.has_remaining() {
        let (id, value) = (payload.get_u32() & 0xff_ffff, payload.get_u32());
        if id == INITIAL_WINDOW_SIZE {
            frame = Frame::InitialWindow(value & 0x7fff_ffff);
        }
    }
    Some(frame)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::Decoder;
    use crate::streaming::spdy::{
        error::Error,
        frame::{self, Frame, Status},
        headers::{Deflater, Headers},
    };

    fn decode(bytes: &[u8]) -> Result<Vec<Frame>, Error> {
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::from(bytes));
        let mut frames = Vec::new();
        while let Some(frame) = decoder.decode(&mut buffer)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn what_is_written_is_read() {
        let headers = Headers::from([("streamType", "stdin")]);
        let mut bytes = frame::open(1, &Deflater::default().block(&headers));
        bytes.extend(frame::data(1, 3, true));
        bytes.extend(b"abc");
        bytes.extend(frame::reset(3, Status::Cancel));
        bytes.extend(frame::ping(5));
        bytes.extend(frame::window_update(0, 9));
        bytes.extend(frame::initial_window(70000));
        bytes.extend(frame::go_away(1));
        let expected = [
            Frame::Open { id: 1, fin: false, headers: Some(headers) },
            Frame::Data { id: 1, bytes: "abc".into(), fin: true },
            Frame::Reset { id: 3 },
            Frame::Ping(5),
            Frame::Window { id: 0, delta: 9 },
            Frame::InitialWindow(70000),
            Frame::GoAway,
        ];
        assert_eq!(decode(&bytes).unwrap(), expected);
    }

    #[test]
    fn data_is_handed_on_as_it_comes() {
        let mut decoder = Decoder::default();
        let mut buffer = BytesMut::from(&frame::data(7, 5, true)[..]);
        assert_eq!(decoder.decode(&mut buffer).unwrap(), None);
        for (text, fin) in [("ab", false), ("cde", true)] {
            buffer.extend_from_slice(text.as_bytes());
            let expected = Frame::Data { id: 7, bytes: text.into(), fin };
            assert_eq!(decoder.decode(&mut buffer).unwrap(), Some(expected));
        }
    }

    #[test]
    fn violations_end_the_session() {
        let mut other_version = frame::ping(1);
        other_version[1] = 2;
        let mut too_long = frame::ping(1);
        too_long[5] = 0xff;
        let mut short_reset = frame::reset(1, Status::Cancel);
        short_reset.truncate(12);
        short_reset[7] = 4;
        for (bytes, error) in [
            (other_version, Error::Version(2)),
            (too_long, Error::TooLong(0xff_0004)),
            (short_reset, Error::Malformed(3)),
            (frame::data(0, 0, false).to_vec(), Error::NoStream),
            (frame::window_update(1, 0), Error::Malformed(9)),
            (frame::open(1, b"no zlib"), Error::Compression("is no zlib stream")),
        ] {
            assert_eq!(decode(&bytes), Err(error));
        }
    }
}
