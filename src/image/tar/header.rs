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

    pub(super) fn uid(&self) -> Result<u64, Error> {
        self.number(108, 8)
    }

    pub(super) fn gid(&self) -> Result<u64, Error> {
        self.number(116, 8)
    }

    pub(super) fn size(&self) -> Result<u64, Error> {
        let size = self.number(124, 12)?;
        if size > i64::MAX as u64 { Err(Error::Malformed("a size overflows")) } else { Ok(size) }
    }

    pub(super) fn modified(&self) -> Result<i64, Error> {
        if self.0[136] == 0xff {
            // Before 1970, in two's complement.
            let bytes: [u8; 8] = self.array(140);
            return Ok(i64::from_be_bytes(bytes));
        }
        i64::try_from(self.number(136, 12)?).map_err(|_| Error::Malformed("a time overflows"))
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

    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.0[offset..offset + N]);
        array
    }
}

/// Pairs of offset and length, 24 bytes each, until an empty one.
pub(super) fn segments(fields: &[u8]) -> Result<Vec<(u64, u64)>, Error> {
    let pairs = fields.chunks_exact(24).take_while(|pair| pair[0] != 0);
    pairs.map(|pair| Ok((number(&pair[..12])?, number(&pair[12..])?))).collect()
}

/// Octal digits between spaces, or a binary number after a byte of 0x80.
fn number(field: &[u8]) -> Result<u64, Error> {
    const WRONG: Error =
        Error::Malformed("it is not a tar archive, or is damaged: a number does not parse");
    if field[0] & 0x80 != 0 {
        let first = u64::from(field[0] & 0x7f);
        return field[1..].iter().try_fold(first, |value, byte| {
            value
                .checked_mul(256)
                .and_then(|value| value.checked_add(u64::from(*byte)))
                .ok_or(WRONG)
        });
    }
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let digits = field[..end].trim_ascii();
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value << 3 | u64::from(digit - b'0')),
        _ => Err(WRONG),
    })
}
