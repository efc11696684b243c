//! A streaming reader of tar archives: ustar, PAX, GNU long names, and sparse files in all
//! of GNU's forms. It bounds what it holds, and knows nothing of file systems.

mod header;
mod path;
mod pax;
mod sparse;
#[cfg(test)]
pub(super) mod tests;

use std::{
    io::{self, BufRead},
    rc::Rc,
};

use header::{BLOCK, Header};
pub(super) use path::clean;
use pax::Records;
pub(super) use sparse::Segment;

/// The most that one extended header may have: names and attributes.
const EXTENDED_LIMIT: u64 = 4 << 20;

const GLOBAL_LIMIT: usize = 256;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry. Its data comes next from the reader.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, u32),
    pub(super) device: (u32, u32),
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// The size of the file, holes included.
    pub(super) size: u64,
    /// Where the data lies, for a sparse file.
    pub(super) segments: Option<Vec<Segment>>,
}

/// Why an archive cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the archive cannot be read")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0}")]
    TooLarge(&'static str),
}

pub(super) struct Reader<R> {
    input: R,
    /// Data of the current entry that is not read yet.
    remaining: u64,
    padding: u64,
    position: u64,
    global: Rc<Records>,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, remaining: 0, padding: 0, position: 0, global: Rc::default() }
    }

    /// The entry after this one, whatever is left of this one's data; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut local = Records::default();
        let mut long_path: Option<Vec<u8>> = None;
        let mut long_link: Option<Vec<u8>> = None;
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            match header.kind() {
                b'x' => local = Records::parse(&self.extended(&header)?)?,
                b'g' => {
                    let global = Records::parse(&self.extended(&header)?)?;
                    // They are looked through for every entry that follows.
                    if global.count() > GLOBAL_LIMIT {
                        return Err(Error::TooLarge("a global header of more than 256 records"));
                    }
                    self.global = Rc::new(global);
                }
                b'L' => long_path = Some(until_nul(self.extended(&header)?)),
                b'K' => long_link = Some(until_nul(self.extended(&header)?)),
                kind => {
                    let mut entry = self.entry(&header, kind, &local)?;
                    let Some(entry) = &mut entry else {
                        (local, long_path, long_link) = (Records::default(), None, None);
                        continue;
                    };
                    // An extended header goes before GNU's long names.
                    if let (Some(path), false) = (long_path, local.has_path()) {
                        entry.path = path;
                    }
                    if let (Some(link), false) = (long_link, local.has_link()) {
                        entry.link = link;
                    }
                    if entry.kind == Kind::File && entry.path.ends_with(b"/") {
                        entry.kind = Kind::Directory;
                    }
                    return Ok(Some(entry.clone()));
                }
            }
        }
    }

    /// What the archive is read from.
    pub(super) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    pub(super) fn into_input(self) -> R {
        self.input
    }

    /// Where the current entry's data starts in the archive.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next piece of the current entry's data, which `consume` then takes; empty at
    /// its end.
    pub(super) fn data(&mut self) -> Result<&[u8], Error> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let remaining = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let piece = self.input.fill_buf()?;
        if piece.is_empty() {
            return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(&piece[..piece.len().min(remaining)])
    }

    pub(super) fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
        self.remaining -= amount as u64;
        self.position += amount as u64;
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        local: &Records,
    ) -> Result<Option<Entry>, Error> {
        let global = self.global.clone();
        let records = local.over(&global);
        let size = match records.number("size")? {
            Some(size) => size,
            None => header.size()?,
        };
        let kind = match kind {
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            // Volume labels and what a vendor made up carry no file.
            b'V' | b'M' | b'D' | b'A'..=b'Z' => {
                self.expect(size);
                return Ok(None);
            }
            _ => return Err(Error::Malformed("it has an entry of an unknown type")),
        };
        // Hard links of PAX may carry data; the other kinds have none, whatever they say.
        self.expect(if matches!(kind, Kind::File) { size } else { 0 });
        if kind == Kind::HardLink && size > 0 {
            self.expect(size);
        }
        let mut entry = Entry {
            kind,
            path: records.bytes("path").map_or_else(|| header.path(), <[u8]>::to_vec),
            link: records.bytes("linkpath").map_or_else(|| header.link(), <[u8]>::to_vec),
            mode: header.mode()?,
            uid: id(records.signed("uid")?, || header.uid())?,
            gid: id(records.signed("gid")?, || header.gid())?,
            modified: match records.time("mtime") {
                Some(time) => time,
                None => (header.modified()?, 0),
            },
            device: header.device()?,
            attributes: records.attributes(),
            size,
            segments: None,
        };
        self.read_sparse(header, &records, &mut entry)?;
        let has_nul = |text: &[u8]| text.contains(&0);
        if entry.path.is_empty() || has_nul(&entry.path) || has_nul(&entry.link) {
            return Err(Error::Malformed("it has an entry with an empty or broken name"));
        }
        Ok(Some(entry))
    }

    fn expect(&mut self, size: u64) {
        self.remaining = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_rest(&mut self) -> Result<(), Error> {
        let mut left =
            self.remaining.checked_add(self.padding).ok_or(Error::Malformed("a size overflows"))?;
        while left > 0 {
            let piece = self.input.fill_buf()?.len();
            if piece == 0 && left == self.padding {
                // umoci ends archives with the last byte of the last file, and Go's reader,
                // which containerd has, takes that for the end.
                break;
            }
            if piece == 0 {
                return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            let amount = piece.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input.consume(amount);
            left -= amount as u64;
            self.position += amount as u64;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// The next header, or nothing at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let block = self.block()?;
        if block.iter().any(|byte| *byte != 0) {
            return Header::parse(block).map(Some);
        }
        // Two blocks of zeros end an archive; one is accepted at the very end.
        if !self.input.fill_buf()?.is_empty() && self.block()?.iter().any(|byte| *byte != 0) {
            return Err(Error::Malformed("it has an entry after a block of zeros"));
        }
        Ok(None)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block)?;
        self.position += BLOCK as u64;
        Ok(block)
    }

    /// The data of an extended header.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let size = header.size()?;
        if size > EXTENDED_LIMIT {
            return Err(Error::TooLarge("an extended header of more than 4 MiB"));
        }
        self.expect(size);
        let mut data = Vec::with_capacity(size as usize);
        loop {
            let piece = self.data()?;
            if piece.is_empty() {
                return Ok(data);
            }
            data.extend_from_slice(piece);
            let amount = piece.len();
            self.consume(amount);
        }
    }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    text
}

/// An owner as chown takes it: small negative numbers are the large ones that they stand for in
/// 32 bits, as -2 for "nobody". -1 would leave the owner as it is, which is root.
fn id(extended: Option<i128>, plain: impl FnOnce() -> Result<i128, Error>) -> Result<u32, Error> {
    let id = match extended {
        Some(id) => id,
        None => plain()?,
    };
    match u32::try_from(id) {
        Ok(u32::MAX) => Err(Error::Malformed("an owner is out of range")),
        Ok(id) => Ok(id),
        Err(_) if id == -1 => Ok(0),
        Err(_) => {
            let id = i32::try_from(id).ok().filter(|id| *id < 0);
            id.map(|id| id as u32).ok_or(Error::Malformed("an owner is out of range"))
        }
    }
}
