//! What strangers write, for the fuzzers: each function takes any bytes, and returns.

use bytes::{Bytes, BytesMut};

pub use crate::image::fuzz::{archive, hosts_toml, manifest, policy, reference, stream, whiteouts};
use crate::streaming::{
    spdy::decoder::Decoder,
    websocket::codec::{Codec, Event},
};

/// Decodes bytes as the frames of a client; the first says in which pieces they arrive.
///
/// # Panics
/// Where a frame is handed on that a session could not hold.
pub fn spdy_frames(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    for piece in data.chunks(usize::from(first) + 1) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => check(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        // A control frame that is not whole yet, and its head.
        assert!(buffer.len() <= (16 << 10) + 8, "{} bytes wait", buffer.len());
    }
}

fn check(frame: &crate::streaming::spdy::frame::Frame) {
    use crate::streaming::spdy::frame::Frame;
    match frame {
        Frame::Open { id, .. } | Frame::Reply { id, .. } | Frame::Reset { id } => {
            assert!(*id > 0 && id >> 31 == 0);
        }
        Frame::Window { delta, .. } => assert!(*delta > 0 && delta >> 31 == 0),
        Frame::Data { id, bytes, .. } => assert!(*id > 0 && bytes.len() <= 64 << 10),
        _ => {}
    }
}

/// Decodes bytes as a message of the channel protocol; the first says of which version.
///
/// # Panics
/// Where more bytes come out than went in.
pub fn channel_protocol(data: &[u8]) {
    let Some((&first, message)) = data.split_first() else { return };
    let codec = if first & 1 == 0 { Codec::Binary } else { Codec::Base64 };
    let decoded = codec.decode(first & 2 != 0, Bytes::copy_from_slice(message));
    if let Ok(Some(Event::Data(_, bytes))) = decoded {
        assert!(bytes.len() < message.len());
    }
}
