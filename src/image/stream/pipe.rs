//! The way from the thread that decompresses to the one that unpacks: a few buffers that
//! travel to and fro.

use std::{
    io::{self, BufRead, Read},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
};

use crate::image::{Digest, digest::Hasher};

/// Buffers that are filled and not read.
const BUFFERS: usize = 4;
const BUFFER: usize = 256 << 10;

/// Both ends of a new pipe; what comes out is hashed.
pub(super) fn pipe(hasher: Hasher) -> (Sink, Plain) {
    let (full, filled) = sync_channel(BUFFERS);
    let (recycled, empty) = channel();
    let sink = Sink { full, empty, buffer: Vec::new(), used: 0, made: 0 };
    (sink, Plain { filled, recycled, buffer: Vec::new(), used: 0, hasher })
}

/// Takes decompressed bytes. A buffer is handed on when it is full, whatever it is filled
/// from, so that small pieces cost no buffers.
pub(super) struct Sink {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    used: usize,
    /// Buffers that were ever made: one is filled, one is read, and the others wait.
    made: usize,
}

impl Sink {
    /// Where the next bytes go; never empty.
    pub(super) fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.used == self.buffer.len() {
            self.flush()?;
            self.buffer = self.next();
        }
        Ok(&mut self.buffer[self.used..])
    }

    /// So many bytes of the space are filled.
    pub(super) fn filled(&mut self, amount: usize) {
        self.used += amount;
    }

    /// Hands on what there is.
    ///
    /// # Errors
    /// `BrokenPipe` when the reader has gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.used > 0 {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.truncate(std::mem::take(&mut self.used));
            self.full.send(buffer).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }

    fn next(&mut self) -> Vec<u8> {
        let mut buffer = if self.made < BUFFERS + 2 {
            self.made += 1;
            Vec::new()
        } else {
            self.empty.recv().unwrap_or_default()
        };
        buffer.resize(BUFFER, 0);
        buffer
    }
}

/// The decompressed stream, hashed as its buffers arrive.
pub(super) struct Plain {
    filled: Receiver<Vec<u8>>,
    recycled: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    used: usize,
    hasher: Hasher,
}

impl Plain {
    pub(super) fn drain(&mut self) {
        while let Ok(buffer) = self.filled.recv() {
            self.hasher.update(&buffer);
            self.recycled.send(buffer).ok();
        }
    }

    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Plain {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len()
            && let Ok(next) = self.filled.recv()
        {
            self.hasher.update(&next);
            let old = std::mem::replace(&mut self.buffer, next);
            self.used = 0;
            if !old.is_empty() {
                self.recycled.send(old).ok();
            }
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        self.used += amount;
    }
}
