//! The way from who decompresses to the thread that unpacks: a few buffers that travel to and
//! fro between threads, or what a worker hands over.

use std::{
    io::{self, BufRead, Read},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
};

use super::{
    decode::{Bounds, Sink},
    window::Window,
    worker::Worker,
};
use crate::image::{Digest, digest::Hasher};

/// Buffers that are filled and not read.
const BUFFERS: usize = 4;
const BUFFER: usize = 256 << 10;

/// Both ends of a new pipe between threads; what comes out is hashed.
pub(super) fn pipe(hasher: Hasher, bounds: &Bounds) -> (Buffers, Plain) {
    let (full, filled) = sync_channel(BUFFERS);
    let (recycled, empty) = channel();
    let bounds = bounds.clone();
    let sink = Buffers { full, empty, buffer: Vec::new(), used: 0, made: 0, bounds };
    (sink, Plain::from(Source::Thread { filled, recycled }, hasher))
}

/// The end of the thread that decompresses. A buffer is handed on when it is full, whatever it
/// is filled from, so that small pieces cost no buffers.
pub(super) struct Buffers {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    used: usize,
    /// Buffers that were ever made: one is filled, one is read, and the others wait.
    made: usize,
    bounds: Bounds,
}

impl Sink for Buffers {
    fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.used == self.buffer.len() {
            self.flush()?;
            self.buffer = self.next();
        }
        Ok(&mut self.buffer[self.used..])
    }

    fn filled(&mut self, amount: usize) {
        self.used += amount;
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.used > 0 {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.truncate(std::mem::take(&mut self.used));
            self.full.send(buffer).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }

    fn window(&mut self, size: u64) -> io::Result<Option<Window>> {
        self.bounds.windows.take(size, &self.bounds.stop).map(Some)
    }
}

impl Buffers {
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

/// Where buffers come from.
enum Source {
    Thread { filled: Receiver<Vec<u8>>, recycled: Sender<Vec<u8>> },
    Worker(Box<Worker>),
}

impl Source {
    /// The next one, in exchange for the one before; none at the end.
    fn next(&mut self, mut old: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Source::Thread { filled, recycled } => {
                let next = filled.recv().ok();
                if !old.is_empty() {
                    recycled.send(old).ok();
                }
                next
            }
            Source::Worker(worker) => worker.next(&mut old).then_some(old),
        }
    }
}

/// The decompressed stream, hashed as its buffers arrive.
pub(super) struct Plain {
    source: Source,
    buffer: Vec<u8>,
    used: usize,
    hasher: Hasher,
}

impl Plain {
    pub(super) fn of(worker: Worker, hasher: Hasher) -> Self {
        Self::from(Source::Worker(Box::new(worker)), hasher)
    }

    fn from(source: Source, hasher: Hasher) -> Self {
        Self { source, buffer: Vec::new(), used: 0, hasher }
    }

    pub(super) fn drain(&mut self) {
        while self.refill() {}
    }

    /// The digest of what was read, and what the worker came to where there is one.
    pub(super) fn finish(self) -> (Digest, io::Result<()>) {
        let end = match self.source {
            Source::Thread { .. } => Ok(()),
            Source::Worker(worker) => worker.finish(),
        };
        (self.hasher.finish(), end)
    }

    /// The next buffer, after all of this one; false at the end.
    fn refill(&mut self) -> bool {
        let old = std::mem::take(&mut self.buffer);
        self.used = 0;
        match self.source.next(old) {
            None => false,
            Some(next) => {
                self.hasher.update(&next);
                self.buffer = next;
                true
            }
        }
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
        if self.used == self.buffer.len() {
            self.refill();
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        self.used += amount;
    }
}
