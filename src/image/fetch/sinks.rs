//! Where the parts of a layer go: to the unpacker at once, or into a spool.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Fetch, Wanted};
use crate::image::{
    progress::Counters,
    registry::{Interrupted, Sink},
    spool::Spool,
    task::blocking,
};

/// What is collected before a thread writes it to the spool.
const WRITE: usize = 256 << 10;

/// Hands parts to the unpacker as they come.
pub(super) struct Direct<'a> {
    pub(super) fetch: &'a Fetch,
    pub(super) wanted: &'a Wanted,
    pub(super) sender: mpsc::Sender<Bytes>,
}

impl Sink for Direct<'_> {
    async fn accept(&mut self, part: Bytes) -> Result<(), Interrupted> {
        self.fetch.count(self.wanted, &part);
        self.sender.send(part).await.map_err(|_| Interrupted::NotWanted)
    }
}

/// Writes parts of a range to a spool, some of them at a time.
pub(super) struct Writer<'a> {
    fetch: &'a Fetch,
    wanted: &'a Wanted,
    spool: &'a Arc<Spool>,
    start: u64,
    /// Bytes of the range that are written.
    done: u64,
    pending: Vec<Bytes>,
    pending_bytes: usize,
}

impl Sink for Writer<'_> {
    async fn accept(&mut self, part: Bytes) -> Result<(), Interrupted> {
        self.fetch.count(self.wanted, &part);
        self.pending_bytes += part.len();
        self.pending.push(part);
        if self.pending_bytes < WRITE { Ok(()) } else { self.write().await }
    }
}

impl<'a> Writer<'a> {
    /// For a range that starts there.
    pub(super) fn new(
        fetch: &'a Fetch,
        wanted: &'a Wanted,
        spool: &'a Arc<Spool>,
        start: u64,
    ) -> Self {
        Self { fetch, wanted, spool, start, done: 0, pending: Vec::new(), pending_bytes: 0 }
    }

    /// Writes what is collected.
    pub(super) async fn write(&mut self) -> Result<(), Interrupted> {
        let parts = std::mem::take(&mut self.pending);
        let (spool, start, done) = (self.spool.clone(), self.start, self.done);
        self.done += std::mem::take(&mut self.pending_bytes) as u64;
        blocking(move || spool.write(start, done, &parts)).await.map_err(Interrupted::Failed)
    }
}

/// The downloaded parts as a stream for a blocking thread.
pub(super) struct Parts {
    receiver: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Parts {
    pub(super) fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, part: Bytes::new() }
    }
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.part.is_empty() {
            match self.receiver.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let length = self.part.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.part.split_to(length));
        Ok(length)
    }
}

/// Counts what the unpacker takes.
pub(super) struct Counted<R> {
    pub(super) source: R,
    pub(super) counters: Arc<Counters>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.counters.unpacked(length as u64);
        Ok(length)
    }
}
