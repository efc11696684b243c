//! What a client sends on a stream, on its way to whoever reads it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::spdy;

/// How many bytes of a stream wait for its reader. A client that keeps to this window never
/// makes the others of its session wait.
pub const WINDOW: u32 = 256 * 1024;

/// Where what arrives is put.
pub struct Feed {
    pieces: mpsc::UnboundedSender<Bytes>,
    room: Arc<Semaphore>,
}

/// What a client sends on a stream.
pub struct Incoming {
    pieces: mpsc::UnboundedReceiver<Bytes>,
    room: Arc<Semaphore>,
    flow: Option<Flow>,
}

/// What belongs to the stream where the protocol has more than an end.
pub struct Flow {
    /// Tells the client that it may send more.
    pub credit: spdy::Credit,
    /// The client has given the stream up.
    pub reset: CancellationToken,
}

/// Both ends of a stream's queue.
pub fn queue(flow: Option<Flow>) -> (Feed, Incoming) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(WINDOW as usize));
    let feed = Feed { pieces: sender, room: Arc::clone(&room) };
    (feed, Incoming { pieces: receiver, room, flow })
}

impl Feed {
    /// Waits until there is room for a piece, which is shorter than [`WINDOW`], and puts it
    /// there. A reader that is gone wants nothing.
    pub async fn give(&self, piece: Bytes) {
        if let Ok(room) = self.room.acquire_many(piece.len() as u32).await {
            room.forget();
            let _ = self.pieces.send(piece);
        }
    }
}

impl Incoming {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.recv().await?;
        self.room.add_permits(piece.len());
        if let Some(flow) = &mut self.flow {
            flow.credit.taken(piece.len()).await;
        }
        Some(piece)
    }

    /// Whether the end was a reset: the client does not want the other direction either.
    pub fn is_reset(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.reset.is_cancelled())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{WINDOW, queue};

    #[tokio::test]
    async fn a_queue_is_as_long_as_a_window() {
        let (feed, mut incoming) = queue(None);
        let half = bytes::Bytes::from(vec![0; WINDOW as usize / 2]);
        let give = |piece: &bytes::Bytes| feed.give(piece.clone()).now_or_never();
        assert!(give(&half).is_some());
        assert!(give(&half).is_some());
        assert!(give(&half).is_none());
        incoming.next().await.unwrap();
        assert!(give(&half).is_some());
        drop(incoming);
        assert!(give(&half).is_some());
    }
}
