//! One blob on its way: a file that several connections fill and one reader follows.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::{Spools, chunks::Chunks};
use crate::image::{Error, layers::io_error};

/// A spool that somebody fills and reads. When it is let go it waits for the next attempt,
/// unless it was discarded.
pub(in crate::image) struct Spool {
    pub(super) spools: Arc<Spools>,
    pub(super) name: String,
    pub(super) content: File,
    /// One byte for each chunk, 1 when it is there: written after the chunk itself, so that
    /// a kill between the two costs the chunk and never claims it.
    pub(super) map: File,
    pub(super) size: u64,
    /// Bytes that an earlier attempt has left.
    pub(super) resumed: u64,
    pub(super) state: Mutex<State>,
    pub(super) grown: Condvar,
    pub(super) is_discarded: AtomicBool,
}

pub(super) struct State {
    pub(super) chunks: Chunks,
    /// Nothing more will come.
    pub(super) is_ended: bool,
}

impl Spool {
    pub(in crate::image) fn resumed(&self) -> u64 {
        self.resumed
    }

    /// A range for one more connection to fetch, at most `limit` bytes.
    pub(in crate::image) fn claim(&self, limit: u64) -> Option<Range<u64>> {
        self.lock().chunks.claim(limit)
    }

    /// All that is missing, and perhaps more, as one range; for when no other connection
    /// fetches any longer.
    pub(in crate::image) fn claim_rest(&self) -> Option<Range<u64>> {
        self.lock().chunks.claim_rest()
    }

    /// Writes parts at `start + done`, in a range that begins with the chunk at `start`.
    /// Blocks.
    pub(in crate::image) fn write(
        &self,
        start: u64,
        done: u64,
        parts: &[Bytes],
    ) -> Result<(), Error> {
        let failed = io_error("write", &self.path());
        let mut offset = start + done;
        for part in parts {
            self.content.write_all_at(part, offset).map_err(&failed)?;
            offset += part.len() as u64;
        }
        // The lock is one that threads take that serve others: the disk is not waited for with it.
        let whole = self.lock().chunks.whole(start..offset);
        let marks = vec![1; whole.len()];
        self.map.write_all_at(&marks, whole.start as u64).map_err(&failed)?;
        self.lock().chunks.complete(whole);
        self.grown.notify_all();
        Ok(())
    }

    /// A reader from the front, which waits for what is still on its way.
    pub(in crate::image) fn reader(self: &Arc<Self>) -> Reader {
        Reader { spool: self.clone(), position: 0 }
    }

    /// Says, when it is dropped, that nothing more will come.
    pub(in crate::image) fn filling(self: &Arc<Self>) -> Filling {
        self.lock().is_ended = false;
        Filling(self.clone())
    }

    /// Removes the spool: its layer is unpacked, or its content is of no use. Blocks.
    pub(in crate::image) fn discard(&self) -> Result<(), Error> {
        self.is_discarded.store(true, Ordering::Relaxed);
        // The blocks go now, and not with the last descriptor on a thread that must not wait.
        self.content.set_len(0).map_err(io_error("empty", &self.path()))?;
        self.spools.remove(&self.name)
    }

    /// How much of it is there.
    pub(super) fn bytes(&self) -> u64 {
        if self.is_discarded.load(Ordering::Relaxed) { 0 } else { self.lock().chunks.total() }
    }

    fn path(&self) -> PathBuf {
        self.spools.directory.join(&self.name)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.spools.let_go(&self.name, self.bytes(), self.is_discarded.load(Ordering::Relaxed));
    }
}

/// Whoever fills a spool.
pub(in crate::image) struct Filling(Arc<Spool>);

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.lock().is_ended = true;
        self.0.grown.notify_all();
    }
}

/// Reads a spool from its front while it is filled.
pub(in crate::image) struct Reader {
    spool: Arc<Spool>,
    position: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.wait();
        let wanted = available.min(buffer.len() as u64) as usize;
        if wanted == 0 && self.position < self.spool.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = self.spool.content.read_at(&mut buffer[..wanted], self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Reader {
    /// Waits until there is something to read; nothing at the end, or when no more will come.
    fn wait(&self) -> u64 {
        let mut state = self.spool.lock();
        loop {
            let available = state.chunks.available(self.position);
            if available > 0 || state.is_ended || self.position >= self.spool.size {
                return available;
            }
            state = self.spool.grown.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
