//! The compressed stream with a look ahead: where a member or frame begins is told by its
//! first bytes, which may come in any pieces.

use std::io::{self, BufRead, Read};

const BUFFER: usize = 128 << 10;

/// A buffered reader that shows some bytes before they are consumed, however few of them its
/// source gives at a time.
pub(super) struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    count: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: vec![0; BUFFER], start: 0, end: 0, count: 0 }
    }

    /// The next `wanted` bytes, or as many as there are before the end.
    pub(super) fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < wanted && self.more()? {}
        Ok(&self.buffer[self.start..self.end.min(self.start + wanted)])
    }

    /// Bytes that were read from the source.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn into_inner(self) -> R {
        self.source
    }

    /// Reads into what is free at the end; false at the source's end.
    fn more(&mut self) -> io::Result<bool> {
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(length) => {
                    self.end += length;
                    self.count += length as u64;
                    return Ok(length > 0);
                }
            }
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.more()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.start += amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn what_is_shown_is_there_afterwards() {
        let content: Vec<u8> = (0..BUFFER * 2 + 5).map(|index| (index / 7) as u8).collect();
        let mut input = Input::new(Drops(&content));
        let mut read = Vec::new();
        while !input.peek(18).unwrap().is_empty() {
            let shown = input.peek(18).unwrap().to_vec();
            assert!(content[read.len()..].starts_with(&shown));
            assert_eq!(shown.len(), 18.min(content.len() - read.len()));
            let mut piece = [0; 4099];
            let length = input.read(&mut piece).unwrap();
            read.extend_from_slice(&piece[..length]);
        }
        assert!(read == content);
    }
}
