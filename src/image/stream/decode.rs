//! Decompression: gzip and zstd in any number of members, or none at all.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::mpsc::{Receiver, SyncSender},
};

use flate2::bufread::GzDecoder;

use super::BUFFERS;
use crate::image::{
    Digest,
    digest::{Hasher, Hashing},
};

const BUFFER: usize = 256 << 10;
/// No gzip stream is denser than this; a zstd stream that is holds no image.
pub(super) const RATIO: u64 = 1100;

/// Decompresses the source into buffers; answers with the digest of the source, whose rest
/// is read to its end.
pub(super) fn decode(
    source: impl Read,
    hasher: Hasher,
    full: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
    always_allowed: u64,
) -> io::Result<Digest> {
    let mut input = BufReader::with_capacity(BUFFER / 2, Hashing::new(source, hasher));
    let mut output = Output { full, empty, total: 0, always_allowed, buffers: 0 };
    match magic(&mut input)? {
        Format::Gzip => {
            while magic(&mut input)? == Format::Gzip {
                let mut member = GzDecoder::new(&mut input);
                output.copy(&mut member, |member| member.get_ref().get_ref().count())?;
            }
        }
        Format::Zstd => {
            while magic(&mut input)? == Format::Zstd {
                let mut frame =
                    zstd::stream::read::Decoder::with_buffer(&mut input)?.single_frame();
                output.copy(&mut frame, |frame| frame.get_ref().get_ref().count())?;
            }
        }
        Format::Other(reason) => return Err(io::Error::new(io::ErrorKind::InvalidData, reason)),
        Format::Plain => output.copy(&mut input, |input| input.get_ref().count())?,
    }
    // Padding after the last member is part of the digest and of nothing else.
    loop {
        let length = input.fill_buf()?.len();
        if length == 0 {
            return Ok(input.into_inner().finish());
        }
        input.consume(length);
    }
}

#[derive(PartialEq, Eq)]
enum Format {
    Gzip,
    Zstd,
    Plain,
    Other(&'static str),
}

fn magic(input: &mut impl BufRead) -> io::Result<Format> {
    let start = loop {
        match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    Ok(match start {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            Format::Other("it is compressed with xz; only gzip and zstd are supported")
        }
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, ..] => {
            Format::Other("it is compressed with bzip2; only gzip and zstd are supported")
        }
        _ => Format::Plain,
    })
}

struct Output<'a> {
    full: &'a SyncSender<Vec<u8>>,
    empty: &'a Receiver<Vec<u8>>,
    total: u64,
    always_allowed: u64,
    buffers: usize,
}

impl Output<'_> {
    /// Hands on all that `reader` has; `consumed` says how much of the source that took.
    fn copy<R: Read>(&mut self, reader: &mut R, consumed: impl Fn(&R) -> u64) -> io::Result<()> {
        loop {
            let mut buffer = self.buffer();
            let mut length = 0;
            while length < buffer.len() {
                match reader.read(&mut buffer[length..]) {
                    Ok(0) => break,
                    Ok(amount) => length += amount,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            let is_last = length < buffer.len();
            buffer.truncate(length);
            self.total += length as u64;
            if self.total > self.always_allowed && self.total / RATIO > consumed(reader) {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if length > 0 && self.full.send(buffer).is_err() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// A buffer that has come back, or a new one as long as there are few.
    fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = if self.buffers < BUFFERS + 2 {
            self.buffers += 1;
            self.empty.try_recv().unwrap_or_default()
        } else {
            self.empty.recv().unwrap_or_default()
        };
        buffer.resize(BUFFER, 0);
        buffer
    }
}
