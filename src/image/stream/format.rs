//! What a stream, a member or a frame is, by its first bytes.

/// Enough to tell, and for all of a zstd frame's header.
pub(super) const LOOK_AHEAD: usize = 18;

/// What comes next in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    /// A zstd frame that needs a window of so many bytes.
    Zstd {
        window: u64,
    },
    /// A frame of so many bytes, its header included, that says nothing.
    Skippable {
        length: u64,
    },
    /// Neither of them.
    Plain,
    /// A format that is known and not supported.
    Unsupported(&'static str),
    End,
}

impl Format {
    /// `start` has [`LOOK_AHEAD`] bytes, or all that are left.
    pub(super) fn of(start: &[u8]) -> Self {
        match start {
            [] => Self::End,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, header @ ..] => {
                Self::Zstd { window: window(header).unwrap_or_default() }
            }
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
                Self::Skippable { length: 8 + u64::from(u32::from_le_bytes([*a, *b, *c, *d])) }
            }
            [0xfd, b'7', b'z', b'X', b'Z', ..] => {
                Self::Unsupported("it is compressed with xz; only gzip and zstd are supported")
            }
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, ..] => {
                Self::Unsupported("it is compressed with bzip2; only gzip and zstd are supported")
            }
            _ => Self::Plain,
        }
    }
}

/// The window of a frame (RFC 8878, section 3.1.1.1); nothing where its header breaks off.
fn window(header: &[u8]) -> Option<u64> {
    let (descriptor, rest) = header.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let dictionary_id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (declared, rest) = if is_single_segment {
        (u64::MAX, rest)
    } else {
        let (byte, rest) = rest.split_first()?;
        let base = 1u64 << (10 + (byte >> 3));
        (base + base / 8 * u64::from(byte & 7), rest)
    };
    let size_length = match descriptor >> 6 {
        0 => usize::from(is_single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    if size_length == 0 {
        return Some(declared);
    }
    let size = rest.get(dictionary_id..dictionary_id + size_length)?;
    let size = size.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let size = if size_length == 2 { size + 256 } else { size };
    // No more is ever looked back at than there is.
    Some(declared.min(size))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zstd::stream::write::Encoder;

    use super::*;

    fn frame(window_log: u32, known_size: bool, plain: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        if known_size {
            encoder.set_pledged_src_size(Some(plain.len() as u64)).unwrap();
        }
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn windows_are_read_from_frames() {
        let long = vec![7; 100_000];
        for (frame, window) in [
            (frame(20, false, &long), 1 << 20),
            (frame(27, false, &long), 128 << 20),
            (frame(31, false, &long), 2048 << 20),
            (frame(27, true, &long), 100_000),
            (frame(20, true, b"abc"), 3),
            (frame(20, true, &long[..300]), 300),
        ] {
            let header = &frame[..frame.len().min(LOOK_AHEAD)];
            assert_eq!(Format::of(header), Format::Zstd { window }, "{header:x?}");
        }
    }

    #[test]
    fn starts_are_told_apart() {
        for (start, format) in [
            (&b""[..], Format::End),
            (b"\x1f", Format::Plain),
            (b"\x1f\x8b", Format::Gzip),
            (b"\x28\xb5\x2f\xfd", Format::Zstd { window: 0 }),
            (b"\x5f\x2a\x4d\x18\x04\0\0\0", Format::Skippable { length: 12 }),
            (b"\x50\x2a\x4d\x18\xff\xff\xff\xff", Format::Skippable { length: 8 + 0xffff_ffff }),
            (b"\x60\x2a\x4d\x18\x04\0\0\0", Format::Plain),
            (b"etc/passwd", Format::Plain),
        ] {
            assert_eq!(Format::of(start), format, "{start:x?}");
        }
        assert!(matches!(Format::of(b"\xfd7zXZ\0"), Format::Unsupported(_)));
        assert!(matches!(Format::of(b"BZh91AY"), Format::Unsupported(_)));
    }
}
