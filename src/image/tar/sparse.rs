//! Sparse files: GNU's old header form, and the three forms in PAX records.

use std::io::BufRead;

use super::{
    Entry, Error, Reader,
    header::{BLOCK, Header, segments},
    pax::{View, decimal},
};

/// Enough for any file, and few megabytes of map.
const SEGMENTS: usize = 200_000;
/// Larger files are not in images; file systems take no more than this either.
const LARGEST: u64 = 16 << 40;

/// A stretch of data in a sparse file; the rest is holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Segment {
    pub(in super::super) offset: u64,
    pub(in super::super) length: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads the map of a sparse file, wherever it is, into the entry.
    pub(super) fn read_sparse(
        &mut self,
        header: &Header,
        records: &View<'_>,
        entry: &mut Entry,
    ) -> Result<(), Error> {
        let (pairs, size) = if header.kind() == b'S' {
            (self.old_map(header)?, header.sparse_size()?)
        } else if let Some(major) = records.number("GNU.sparse.major")? {
            if (major, records.number("GNU.sparse.minor")?) != (1, Some(0)) {
                return Err(Error::Malformed("a sparse file is of an unknown version"));
            }
            let size = records.number("GNU.sparse.realsize")?;
            (self.map_in_data()?, size.ok_or(Error::Malformed("a sparse file has no size"))?)
        } else if let Some(size) = records.number("GNU.sparse.size")? {
            let numbers = match records.bytes("GNU.sparse.map") {
                Some(map) => map
                    .split(|b| *b == b',')
                    .map(decimal)
                    .collect::<Option<Vec<u64>>>()
                    .ok_or(Error::Malformed("a sparse map does not parse"))?,
                None => records.sequence("GNU.sparse.offset", "GNU.sparse.numbytes")?,
            };
            (pairs(&numbers)?, size)
        } else {
            return Ok(());
        };
        if let Some(name) = records.bytes("GNU.sparse.name") {
            entry.path = name.to_vec();
        }
        entry.segments = Some(check(&pairs, size, self.remaining)?);
        entry.size = size;
        Ok(())
    }

    fn old_map(&mut self, header: &Header) -> Result<Vec<(u64, u64)>, Error> {
        let mut map = header.sparse_segments()?;
        let mut continues = header.sparse_continues();
        while continues {
            let block = self.block()?;
            map.extend(segments(&block[..504])?);
            continues = block[504] != 0;
            if map.len() > SEGMENTS {
                return Err(Error::TooLarge("a sparse file of more than 200000 segments"));
            }
        }
        Ok(map)
    }

    /// Version 1.0: decimal lines in front of the data, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>, Error> {
        let mut numbers = Vec::new();
        let mut wanted = 1;
        let mut line = Vec::new();
        let start = self.position;
        while numbers.len() < wanted {
            let byte = *self.data()?.first().ok_or(Error::Malformed("a sparse map breaks off"))?;
            self.consume(1);
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(Error::Malformed("a sparse map does not parse"));
                }
                continue;
            }
            let number = decimal(&line).ok_or(Error::Malformed("a sparse map does not parse"))?;
            line.clear();
            numbers.push(number);
            if numbers.len() == 1 {
                if number > SEGMENTS as u64 {
                    return Err(Error::TooLarge("a sparse file of more than 200000 segments"));
                }
                wanted = 1 + 2 * number as usize;
            }
        }
        let mut pad = (BLOCK as u64 - (self.position - start) % BLOCK as u64) % BLOCK as u64;
        while pad > 0 {
            let amount = self.data()?.len().min(pad as usize);
            if amount == 0 {
                return Err(Error::Malformed("a sparse map breaks off"));
            }
            self.consume(amount);
            pad -= amount as u64;
        }
        pairs(&numbers[1..])
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, Error> {
    if !numbers.len().is_multiple_of(2) {
        return Err(Error::Malformed("a sparse map does not parse"));
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Segments must come in order, within the file, and make up exactly the data.
fn check(pairs: &[(u64, u64)], size: u64, data: u64) -> Result<Vec<Segment>, Error> {
    const WRONG: Error = Error::Malformed("a sparse map contradicts its file");
    if size > LARGEST {
        return Err(Error::TooLarge("a sparse file of more than 16 TiB"));
    }
    let (mut end, mut total) = (0u64, 0u64);
    let mut segments = Vec::with_capacity(pairs.len());
    for &(offset, length) in pairs {
        if offset < end {
            return Err(WRONG);
        }
        end = offset.checked_add(length).filter(|end| *end <= size).ok_or(WRONG)?;
        total += length;
        if length > 0 {
            segments.push(Segment { offset, length });
        }
    }
    if total == data { Ok(segments) } else { Err(WRONG) }
}
