//! The sending side of a session, which its streams share.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    io::{AsyncWriteExt, WriteHalf},
    sync::{Mutex, OwnedSemaphorePermit},
};
use tokio_util::sync::CancellationToken;

use super::{
    flow::Windows,
    frame::{self, HEAD, Status},
    headers::{Deflater, Headers},
};
use crate::streaming::{
    channel::{Chunk, Closed},
    queue::WINDOW,
    transport::{Activity, Transport},
};

/// Writes frames whole, one after the other.
pub(super) struct Writer {
    // Held while a frame is written, since frames must not mix.
    output: Mutex<Output>,
    pub windows: Windows,
    pub activity: Arc<Activity>,
    /// The session is over.
    pub over: CancellationToken,
    /// The last stream that was opened.
    pub last: AtomicU32,
}

struct Output {
    /// None once the last frame is written; what comes later is not missed.
    io: Option<WriteHalf<Transport>>,
    deflater: Deflater,
}

impl Writer {
    pub(super) fn new(
        io: WriteHalf<Transport>,
        activity: Arc<Activity>,
        over: CancellationToken,
    ) -> Self {
        let output = Mutex::new(Output { io: Some(io), deflater: Deflater::default() });
        Self { output, windows: Windows::default(), activity, over, last: AtomicU32::new(0) }
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// When the session is over. A frame that is not written whole ends it.
    pub(super) async fn frame(&self, frame: &[u8]) -> io::Result<()> {
        let mut output = self.output.lock().await;
        self.write(&mut output, frame).await
    }

    async fn write(&self, output: &mut Output, bytes: &[u8]) -> io::Result<()> {
        let Some(io) = &mut output.io else { return Ok(()) };
        let write = async {
            io.write_all(bytes).await?;
            io.flush().await
        };
        let result = tokio::select! {
            biased;
            result = write => result,
            () = self.over.cancelled() => Err(io::ErrorKind::BrokenPipe.into()),
        };
        match &result {
            Ok(()) => self.activity.note(),
            Err(_) => self.over.cancel(),
        }
        result
    }

    pub(super) async fn reply(&self, id: u32) -> io::Result<()> {
        let mut output = self.output.lock().await;
        let block = output.deflater.block(&Headers::default());
        self.write(&mut output, &frame::reply(id, &block)).await
    }

    /// Says that the session ends, and that nothing more is sent.
    pub(super) async fn end(&self) -> io::Result<()> {
        let mut output = self.output.lock().await;
        let last = self.last.load(Ordering::Relaxed);
        self.write(&mut output, &frame::go_away(last)).await?;
        match output.io.take() {
            Some(mut io) => io.shutdown().await,
            None => Ok(()),
        }
    }

    /// Lets go of the connection, whoever else still has a stream.
    pub(super) async fn let_go(&self) {
        self.over.cancel();
        self.output.lock().await.io = None;
    }
}

/// The sending side of a stream.
pub struct Outgoing {
    id: u32,
    writer: Arc<Writer>,
    /// The other side has reset the stream.
    reset: CancellationToken,
    finished: bool,
    /// Counts the stream as open.
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Outgoing {
    pub(super) fn new(
        id: u32,
        writer: Arc<Writer>,
        reset: CancellationToken,
        permit: Arc<OwnedSemaphorePermit>,
    ) -> Self {
        Self { id, writer, reset, finished: false, _permit: permit }
    }

    /// Sends all of a chunk.
    ///
    /// # Errors
    /// [`Closed`] when nobody will read it.
    pub async fn send(&self, chunk: &mut Chunk) -> Result<(), Closed> {
        let mut sent = 0;
        while sent < chunk.len() {
            let length = tokio::select! {
                biased;
                () = self.reset.cancelled() => return Err(Closed),
                () = self.writer.over.cancelled() => return Err(Closed),
                length = self.writer.windows.take(self.id, chunk.len() - sent) => length,
            };
            let frame = chunk.with_head(sent, length, frame::data(self.id, length, false));
            self.writer.frame(frame).await.map_err(|_| Closed)?;
            sent += length;
        }
        Ok(())
    }

    /// Says that nothing follows on the stream.
    ///
    /// # Errors
    /// [`Closed`] when nobody wants to know.
    pub async fn finish(mut self) -> Result<(), Closed> {
        self.finished = true;
        if self.reset.is_cancelled() {
            return Err(Closed);
        }
        let head: [u8; HEAD] = frame::data(self.id, 0, true);
        self.writer.frame(&head).await.map_err(|_| Closed)
    }

    /// Gives the stream up in both directions.
    pub async fn reset(mut self) {
        self.finished = true;
        if !self.reset.is_cancelled() {
            // A session that is over has no streams.
            let _ = self.writer.frame(&frame::reset(self.id, Status::Cancel)).await;
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.writer.windows.close(self.id);
        if self.finished || self.reset.is_cancelled() || self.writer.over.is_cancelled() {
            return;
        }
        // Whoever drops it without a word must not leave the other side waiting.
        let (writer, id) = (Arc::clone(&self.writer), self.id);
        tokio::spawn(async move {
            let _ = writer.frame(&frame::reset(id, Status::Cancel)).await;
        });
    }
}

/// Lets the other side send more on a stream as its data is taken.
pub struct Credit {
    id: u32,
    writer: Arc<Writer>,
    owed: u32,
}

impl Credit {
    pub(super) fn new(id: u32, writer: Arc<Writer>) -> Self {
        Self { id, writer, owed: 0 }
    }

    /// So many bytes have been taken.
    pub async fn taken(&mut self, length: usize) {
        self.owed = self.owed.saturating_add(length as u32);
        if self.owed >= WINDOW / 2 {
            let owed = std::mem::take(&mut self.owed);
            // A session that is over sends nothing more.
            let _ = self.writer.frame(&frame::window_update(self.id, owed)).await;
        }
    }
}
