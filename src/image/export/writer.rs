//! The outer tar archive: regular files by their names, and nothing else.

use std::io::{self, Write};

const BLOCK: usize = 512;
const NAME: usize = 100;
/// The largest size that a header's eleven octal digits hold.
const OCTAL: u64 = 0o777_7777_7777;

/// Writes a tar archive that says nothing of users or times, so that the same files give
/// the same bytes.
pub(super) struct Writer<'a> {
    sink: &'a mut dyn Write,
}

impl<'a> Writer<'a> {
    pub(super) fn new(sink: &'a mut dyn Write) -> Self {
        Self { sink }
    }

    pub(super) fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.begin(name, content.len() as u64)?.write_all(content)?;
        self.pad(content.len() as u64)
    }

    /// Begins a file of that size, whose content is then written to what this gives, and
    /// which [`Writer::pad`] ends.
    pub(super) fn begin(&mut self, name: &str, size: u64) -> io::Result<&mut dyn Write> {
        if name.len() > NAME {
            // GNU's way: the name is the content of an entry before.
            let text = [name.as_bytes(), &[0]].concat();
            self.sink.write_all(&header("././@LongLink", text.len() as u64, b'L'))?;
            self.sink.write_all(&text)?;
            self.pad(text.len() as u64)?;
        }
        self.sink.write_all(&header(name, size, b'0'))?;
        Ok(self.sink)
    }

    /// Fills the last block of a file of that size.
    pub(super) fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = (size % BLOCK as u64) as usize;
        if rest == 0 { Ok(()) } else { self.sink.write_all(&[0; BLOCK][rest..]) }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()
    }
}

fn header(name: &str, size: u64, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(NAME)]);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size <= OCTAL {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        // GNU's base 256: the first bit is set, and the number stands at the end.
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar  \0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tar;

    #[test]
    fn what_is_written_can_be_read() {
        let long = "blobs/".to_owned() + &"x".repeat(140);
        let mut archive = Vec::new();
        let mut writer = Writer::new(&mut archive);
        writer.file("index.json", b"{}").unwrap();
        writer.file(&long, &[7; BLOCK]).unwrap();
        writer.finish().unwrap();
        assert_eq!(archive.len() % BLOCK, 0);
        let mut reader = tar::Reader::new(archive.as_slice());
        for (name, content) in [("index.json", &b"{}"[..]), (&long, &[7; BLOCK])] {
            assert_eq!(reader.next().unwrap().unwrap().path, name.as_bytes());
            assert_eq!(reader.data().unwrap(), content);
            reader.consume(content.len());
        }
        assert!(reader.next().unwrap().is_none());
        let large = header("x", 9 << 30, b'0');
        assert_eq!(large[124], 0x80);
        assert_eq!(u64::from_be_bytes(large[128..136].try_into().unwrap()), 9 << 30);
    }
}
