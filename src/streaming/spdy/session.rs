//! One session: frames of one connection, which carry streams that the client opens.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, ReadHalf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    decoder::Decoder,
    frame::{self, Frame, Status},
    headers::Headers,
    writer::{Credit, Outgoing, Writer},
};
use crate::streaming::{
    queue::{Feed, Flow, Incoming, WINDOW, queue},
    transport::{Activity, Life, READ_BUFFER, Transport},
};

/// What a session may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams that are open at one time.
    pub streams: usize,
    /// How long nothing may happen.
    pub idle: Duration,
    /// How long one stream that is not read may hold up the others before it is reset.
    pub stall: Option<Duration>,
}

/// A stream that the client opened.
pub struct Stream {
    /// Its id: odd, and higher than any before.
    pub id: u32,
    /// What names it.
    pub headers: Headers,
    /// What the client sends.
    pub incoming: Incoming,
    /// What is sent to the client.
    pub outgoing: Outgoing,
}

/// The server's side of a session.
pub struct Session {
    opened: mpsc::Receiver<Stream>,
    writer: Arc<Writer>,
    reader: tokio::task::JoinHandle<()>,
}

/// How long a client may take to close its side after the last word.
const LINGER: Duration = Duration::from_secs(5);

/// The window of a session that this side reads, in bytes, above that of the protocol.
const SESSION_WINDOW: u32 = 1 << 20;

impl Session {
    /// Serves a connection until its end.
    pub fn serve(io: Transport, limits: Limits, life: Life) -> Self {
        let (read, write) = tokio::io::split(io);
        let activity = Arc::new(Activity::default());
        let writer = Arc::new(Writer::new(write, Arc::clone(&activity), life.over));
        let (sender, opened) = mpsc::channel(1);
        let reader = Reader {
            io: read,
            writer: Arc::clone(&writer),
            limits,
            permits: Arc::new(Semaphore::new(limits.streams)),
            opened: sender,
            streams: HashMap::new(),
            received: 0,
        };
        Self { opened, writer, reader: tokio::spawn(reader.run(life.stop)) }
    }

    /// The next stream that the client opens; `None` at the end of the session.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// A token that is cancelled when the session is over.
    pub fn over(&self) -> CancellationToken {
        self.writer.over.clone()
    }

    /// Ends the session: says so, waits until the client has read it, and closes.
    pub async fn close(mut self) {
        let ended = self.writer.end().await;
        self.opened.close();
        if ended.is_err() || tokio::time::timeout(LINGER, &mut self.reader).await.is_err() {
            self.writer.over.cancel();
        }
    }
}

/// Where the data of a stream goes.
struct Entry {
    feed: Feed,
    reset: CancellationToken,
    /// Counts the stream as open.
    _permit: Arc<OwnedSemaphorePermit>,
}

struct Reader {
    io: ReadHalf<Transport>,
    writer: Arc<Writer>,
    limits: Limits,
    permits: Arc<Semaphore>,
    opened: mpsc::Sender<Stream>,
    /// Those whose client may still send.
    streams: HashMap<u32, Entry>,
    /// Bytes that the session's window is owed.
    received: u32,
}

impl Reader {
    async fn run(mut self, stop: CancellationToken) {
        let over = self.writer.over.clone();
        let error = tokio::select! {
            result = self.serve() => result.err(),
            () = stop.cancelled() => Some(super::Error::Stopped),
            () = over.cancelled() => None,
        };
        if let Some(error) = error {
            tracing::debug!(%error, "a streaming session is broken off");
        }
        // A client that is gone needs no farewell, and one that does not read gets none.
        let _ = tokio::time::timeout(LINGER, self.writer.end()).await;
        for entry in self.streams.values() {
            entry.reset.cancel();
        }
        self.writer.let_go().await;
    }

    async fn serve(&mut self) -> Result<(), super::Error> {
        let windows = [frame::initial_window(WINDOW), frame::window_update(0, SESSION_WINDOW)];
        if self.writer.frame(&windows.concat()).await.is_err() {
            return Ok(());
        }
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
        loop {
            while let Some(frame) = decoder.decode(&mut buffer)? {
                if !self.handle(frame).await? {
                    return Ok(());
                }
            }
            if !self.read(&mut buffer).await {
                return Ok(());
            }
        }
    }

    /// Reads more; `false` at the end, and when nothing has happened for too long.
    async fn read(&mut self, buffer: &mut BytesMut) -> bool {
        buffer.reserve(READ_BUFFER);
        loop {
            let deadline = self.writer.activity.last() + self.limits.idle;
            match timeout_at(deadline, self.io.read_buf(buffer)).await {
                Ok(Ok(length)) => {
                    self.writer.activity.note();
                    return length > 0;
                }
                Ok(Err(_)) => return false,
                Err(_) if self.writer.activity.last() + self.limits.idle > Instant::now() => {}
                Err(_) => return false,
            }
        }
    }

    /// Does what a frame asks for; `false` when the session is over.
    async fn handle(&mut self, frame: Frame) -> Result<bool, super::Error> {
        match frame {
            Frame::Open { id, fin, headers } => return self.open(id, fin, headers).await,
            Frame::Data { id, bytes, fin } => return Ok(self.data(id, bytes, fin).await),
            Frame::Reset { id } => {
                if let Some(entry) = self.streams.remove(&id) {
                    entry.reset.cancel();
                }
            }
            Frame::Window { id, delta } => self.writer.windows.grant(id, delta)?,
            Frame::InitialWindow(size) => self.writer.windows.set_initial(size),
            // Only those of the client are odd; an even one would be an answer.
            Frame::Ping(id) if id % 2 == 1 => return Ok(self.send(&frame::ping(id)).await),
            Frame::GoAway | Frame::Ping(_) | Frame::Reply { .. } | Frame::Other => {}
        }
        Ok(true)
    }

    async fn open(
        &mut self,
        id: u32,
        fin: bool,
        headers: Option<Headers>,
    ) -> Result<bool, super::Error> {
        let last = self.writer.last.swap(id, Ordering::Relaxed);
        if id.is_multiple_of(2) || id <= last {
            return Err(super::Error::Order(id));
        }
        let Some(headers) = headers else {
            return Ok(self.send(&frame::reset(id, Status::ProtocolError)).await);
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Ok(self.send(&frame::reset(id, Status::Refused)).await);
        };
        let permit = Arc::new(permit);
        self.writer.windows.open(id);
        let reset = CancellationToken::new();
        let credit = Credit::new(id, Arc::clone(&self.writer));
        let (feed, incoming) = queue(Some(Flow { credit, reset: reset.clone() }));
        let outgoing =
            Outgoing::new(id, Arc::clone(&self.writer), reset.clone(), Arc::clone(&permit));
        if !fin {
            self.streams.insert(id, Entry { feed, reset, _permit: permit });
        }
        let replied = self.writer.reply(id).await.is_ok();
        // Nobody accepts streams any more at the end of a session.
        let _ = self.opened.send(Stream { id, headers, incoming, outgoing }).await;
        Ok(replied)
    }

    async fn data(&mut self, id: u32, bytes: Bytes, fin: bool) -> bool {
        self.received += bytes.len() as u32;
        if self.received >= SESSION_WINDOW / 2 {
            let received = std::mem::take(&mut self.received);
            if !self.send(&frame::window_update(0, received)).await {
                return false;
            }
        }
        // Alone it can hold up only itself.
        let stall = self.limits.stall.filter(|_| self.streams.len() > 2);
        let Some(entry) = self.streams.get(&id) else {
            // The client may not know yet that the stream is closed.
            return true;
        };
        let delivered = bytes.is_empty() || deliver(&entry.feed, bytes, stall).await;
        if !delivered && let Some(entry) = self.streams.remove(&id) {
            entry.reset.cancel();
            return self.send(&frame::reset(id, Status::FlowControl)).await;
        }
        if fin {
            self.streams.remove(&id);
        }
        true
    }

    async fn send(&mut self, frame: &[u8]) -> bool {
        self.writer.frame(frame).await.is_ok()
    }
}

/// Hands a piece to its reader. `false` where that one holds up others for too long.
async fn deliver(feed: &Feed, bytes: Bytes, stall: Option<Duration>) -> bool {
    match stall {
        Some(stall) => tokio::time::timeout(stall, feed.give(bytes)).await.is_ok(),
        None => {
            feed.give(bytes).await;
            true
        }
    }
}
