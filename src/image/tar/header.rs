//! The 512-byte header block.

use super::Error;

pub(super) const BLOCK: usize = 512;

pub(super) struct Header([u8; BLOCK]);

impl Header {
    pub(super) fn parse(block: [u8; BLOCK]) -> Result<Self, Error> {
        let header = Self(block);
        let stated = header.number(148, 8)?;
        let field = 148..156;
        let (mut unsigned, mut signed) = (0u64, 0i64);
        for (index, byte) in block.iter().enumerate() {
            let byte = if field.contains(&index) { b' ' } else { *byte };
            unsigned += u64::from(byte);
            // Some old writers summed signed bytes.
            signed += i64::from(byte as i8);
        }
        if stated == unsigned || i64::try_from(stated) == Ok(signed) {
            Ok(header)
        } else {
            Err(Error::Malformed(
                "it is not a tar archive, or is damaged: a header's checksum is wrong",
            ))
        }
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = self.text(345, 155);
        // GNU's own format has other things where ustar has the prefix.
        if &self.0[257..263] != b"ustar\0" || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, Error> {
        // Only the low bits are the mode; some writers add the file type.
        Ok((self.number(100, 8)? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<i128, Error> {
        signed(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Result<i128, Error> {
        signed(&self.0[116..124])
    }

    pub(super) fn size(&self) -> Result<u64, Error> {
        let size = self.number(124, 12)?;
        if size > i64::MAX as u64 { Err(Error::Malformed("a size overflows")) } else { Ok(size) }
    }

    pub(super) fn modified(&self) -> Result<i64, Error> {
        let seconds = signed(&self.0[136..148])?;
        i64::try_from(seconds).map_err(|_| Error::Malformed("a time overflows"))
    }

    pub(super) fn device(&self) -> Result<(u32, u32), Error> {
        let part = |offset| {
            u32::try_from(self.number(offset, 8)?)
                .map_err(|_| Error::Malformed("a device number overflows"))
        };
        match self.kind() {
            b'3' | b'4' => Ok((part(329)?, part(337)?)),
            _ => Ok((0, 0)),
        }
    }

    /// The real size of an old GNU sparse file.
    pub(super) fn sparse_size(&self) -> Result<u64, Error> {
        self.number(483, 12)
    }

    /// The first four segments of an old GNU sparse file.
    pub(super) fn sparse_segments(&self) -> Result<Vec<(u64, u64)>, Error> {
        segments(&self.0[386..482])
    }

    pub(super) fn sparse_continues(&self) -> bool {
        self.0[482] != 0
    }

    fn text(&self, offset: usize, length: usize) -> &[u8] {
        let field = &self.0[offset..offset + length];
        &field[..field.iter().position(|byte| *byte == 0).unwrap_or(length)]
    }

    fn number(&self, offset: usize, length: usize) -> Result<u64, Error> {
        number(&self.0[offset..offset + length])
    }
}

/// Pairs of offset and length, 24 bytes each, until an empty one.
pub(super) fn segments(fields: &[u8]) -> Result<Vec<(u64, u64)>, Error> {
    let pairs = fields.chunks_exact(24).take_while(|pair| pair[0] != 0);
    pairs.map(|pair| Ok((number(&pair[..12])?, number(&pair[12..])?))).collect()
}

/// A number that must not be less than nothing.
fn number(field: &[u8]) -> Result<u64, Error> {
    u64::try_from(signed(field)?).map_err(|_| WRONG)
}

const WRONG: Error =
    Error::Malformed("it is not a tar archive, or is damaged: a number does not parse");

/// Octal digits between spaces and zeros, as Go's reader takes them; or in base 256, in two's
/// complement behind the first bit.
fn signed(field: &[u8]) -> Result<i128, Error> {
    if field[0] & 0x80 != 0 {
        let is_negative = field[0] & 0x40 != 0;
        // The first bit only says which form it is.
        let first = i128::from(field[0] & 0x3f) - if is_negative { 0x40 } else { 0 };
        let value = field[1..].iter().try_fold(first, |value, byte| {
            value.checked_mul(256).map(|value| value + i128::from(*byte))
        });
        return value.ok_or(WRONG);
    }
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let digits = field[start..].split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    digits.iter().try_fold(0, |value: i128, digit| match digit {
        b'0'..=b'7' => Ok(value << 3 | i128::from(digit - b'0')),
        _ => Err(WRONG),
    })
}
