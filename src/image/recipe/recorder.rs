//! Writes the recipe beside the one who reads the archive.

use std::{
    fs::File,
    io::{self, BufRead, Read, Write},
};

use zstd::stream::write::Encoder;

use super::{CONTENT, MAGIC, VERBATIM};

/// Bytes that are gathered before they become an item.
const PIECE: usize = 64 << 10;
/// What lies between contents is mostly zeros and repetition: the fastest level gets them.
const LEVEL: i32 = 1;

/// Passes an archive on and notes what of it is no file's content.
pub(in crate::image) struct Recorder<R> {
    input: R,
    recipe: Option<Encoder<'static, File>>,
    verbatim: Vec<u8>,
    /// Bytes that come next and are announced content.
    content: u64,
    /// `consume` cannot fail; what went wrong is told at the end.
    result: io::Result<()>,
}

impl<R: BufRead> Recorder<R> {
    /// Records into the empty file `recipe`; without one, nothing.
    pub(in crate::image) fn new(input: R, recipe: Option<File>) -> io::Result<Self> {
        let recipe = recipe.map(|file| -> io::Result<_> {
            let mut encoder = Encoder::new(file, LEVEL)?;
            encoder.write_all(MAGIC)?;
            Ok(encoder)
        });
        let recipe = recipe.transpose()?;
        Ok(Self { input, recipe, verbatim: Vec::new(), content: 0, result: Ok(()) })
    }

    /// The next `length` bytes are those of the file `path` at `offset`.
    pub(in crate::image) fn content(&mut self, path: &[u8], offset: u64, length: u64) {
        self.flush();
        self.content = length;
        let Some(recipe) = &mut self.recipe else { return };
        let mut write = || {
            recipe.write_all(&[CONTENT])?;
            recipe.write_all(&(path.len() as u32).to_le_bytes())?;
            recipe.write_all(path)?;
            recipe.write_all(&offset.to_le_bytes())?;
            recipe.write_all(&length.to_le_bytes())
        };
        self.result = std::mem::replace(&mut self.result, Ok(())).and_then(|()| write());
    }

    /// Reads the rest of the archive, which may be anything, and completes the recipe.
    /// Answers with the recipe's size in bytes.
    pub(in crate::image) fn finish(mut self) -> io::Result<u64> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                break;
            }
            self.consume(length);
        }
        self.flush();
        self.result?;
        let Some(recipe) = self.recipe else { return Ok(0) };
        Ok(recipe.finish()?.metadata()?.len())
    }

    fn flush(&mut self) {
        let Some(recipe) = &mut self.recipe else { return };
        if self.verbatim.is_empty() {
            return;
        }
        let mut write = || {
            recipe.write_all(&[VERBATIM])?;
            recipe.write_all(&(self.verbatim.len() as u32).to_le_bytes())?;
            recipe.write_all(&self.verbatim)
        };
        self.result = std::mem::replace(&mut self.result, Ok(())).and_then(|()| write());
        self.verbatim.clear();
    }
}

impl<R: BufRead> BufRead for Recorder<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        let content = self.content.min(amount as u64);
        self.content -= content;
        if content < amount as u64 && self.recipe.is_some() {
            // What is consumed was handed out before, so that it is in the buffer.
            if let Ok(buffer) = self.input.fill_buf() {
                self.verbatim.extend_from_slice(&buffer[content as usize..amount]);
            }
        }
        self.input.consume(amount);
        if self.verbatim.len() >= PIECE {
            self.flush();
        }
    }
}

impl<R: BufRead> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
