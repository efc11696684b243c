//! One WebSocket whose messages belong to channels.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use super::codec::{Codec, Event};
use crate::streaming::{
    channel::{Chunk, Closed},
    queue::{Feed, Incoming, queue},
    transport::{Activity, Life, READ_BUFFER, Transport},
};

/// The longest message of a client, in bytes. Some clients send whole files in one.
const MAX_MESSAGE: usize = 4 << 20;

/// How long a client may take to close its side after the last word.
const LINGER: Duration = Duration::from_secs(5);

/// The server's side of a WebSocket over a connection whose handshake is done.
pub async fn accept(io: Transport) -> WebSocketStream<Transport> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// What is agreed on for a session.
#[derive(Debug, Clone, Copy)]
pub struct Agreement {
    /// How messages are written.
    pub codec: Codec,
    /// Whether the client can close a channel.
    pub closes: bool,
    /// How long nothing may happen.
    pub idle: Duration,
}

/// The server's side of a session.
pub struct Session {
    shared: Arc<Shared>,
    agreement: Agreement,
    reader: tokio::task::JoinHandle<()>,
}

struct Shared {
    // Held while a message is written; none once the connection is let go.
    sink: Mutex<Option<SplitSink<WebSocketStream<Transport>, Message>>>,
    activity: Activity,
    over: CancellationToken,
}

impl Session {
    /// Serves a connection until its end. Returns what comes on those channels that are `read`.
    pub async fn serve(
        io: Transport,
        agreement: Agreement,
        life: Life,
        read: &[bool],
    ) -> (Self, Vec<Option<Incoming>>) {
        let (sink, stream) = accept(io).await.split();
        let activity = Activity::default();
        let shared = Arc::new(Shared { sink: Mutex::new(Some(sink)), activity, over: life.over });
        let mut inputs = Vec::with_capacity(read.len());
        let mut incoming = Vec::with_capacity(read.len());
        for &read in read {
            let (feed, channel) = read.then(|| queue(None)).unzip();
            inputs.push(feed);
            incoming.push(channel);
        }
        let reader = Reader { stream, shared: Arc::clone(&shared), agreement, inputs };
        let reader = tokio::spawn(reader.run(life.stop));
        (Self { shared, agreement, reader }, incoming)
    }

    /// The sending side of a channel.
    pub fn outgoing(&self, channel: u8) -> Outgoing {
        let codec = self.agreement.codec;
        Outgoing { channel, codec, shared: Arc::clone(&self.shared) }
    }

    /// A token that is cancelled when the session is over.
    pub fn over(&self) -> CancellationToken {
        self.shared.over.clone()
    }

    /// Ends the session: says so, waits until the client has read it, and closes.
    pub async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let ended = self.shared.send(Message::Close(Some(frame))).await;
        if ended.is_err() || tokio::time::timeout(LINGER, &mut self.reader).await.is_err() {
            self.shared.over.cancel();
        }
    }
}

impl Shared {
    async fn send(&self, message: Message) -> Result<(), Closed> {
        let mut sink = self.sink.lock().await;
        let sink = sink.as_mut().ok_or(Closed)?;
        let sent = tokio::select! {
            biased;
            sent = sink.send(message) => sent.is_ok(),
            () = self.over.cancelled() => false,
        };
        if !sent {
            self.over.cancel();
            return Err(Closed);
        }
        self.activity.note();
        Ok(())
    }
}

/// The sending side of a channel.
pub struct Outgoing {
    channel: u8,
    codec: Codec,
    shared: Arc<Shared>,
}

impl Outgoing {
    /// Sends all of a chunk.
    ///
    /// # Errors
    /// [`Closed`] when nobody will read it.
    pub async fn send(&self, chunk: &mut Chunk) -> Result<(), Closed> {
        self.shared.send(self.codec.encode(self.channel, chunk)).await
    }
}

/// Nothing has happened for too long.
struct Idle;

struct Reader {
    stream: SplitStream<WebSocketStream<Transport>>,
    shared: Arc<Shared>,
    agreement: Agreement,
    /// Where the data of each channel goes.
    inputs: Vec<Option<Feed>>,
}

impl Reader {
    async fn run(mut self, stop: CancellationToken) {
        let over = self.shared.over.clone();
        let end = tokio::select! {
            end = self.serve() => end,
            () = stop.cancelled() => Some((CloseCode::Away, "the daemon ends")),
            () = over.cancelled() => None,
        };
        if let Some((code, reason)) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            let farewell = self.shared.send(Message::Close(Some(frame)));
            // One that does not read gets none.
            let _ = tokio::time::timeout(LINGER, farewell).await;
        }
        over.cancel();
        *self.shared.sink.lock().await = None;
    }

    /// Serves until the end; returns what the client is to be told.
    async fn serve(&mut self) -> Option<(CloseCode, &'static str)> {
        loop {
            let message = match self.read().await {
                Ok(message) => message?,
                Err(Idle) => return Some((CloseCode::Away, "nothing has happened for too long")),
            };
            let payload = match message {
                Message::Binary(payload) => payload,
                Message::Text(text) => text.into(),
                // Answering a ping is done by the layer below.
                _ => continue,
            };
            match self.agreement.codec.decode(self.agreement.closes, payload) {
                Ok(Some(Event::Data(channel, bytes))) => self.data(channel, bytes).await,
                Ok(Some(Event::Close(channel))) => {
                    if let Some(input) = self.inputs.get_mut(usize::from(channel)) {
                        *input = None;
                    }
                }
                Ok(None) => {}
                Err(_) => {
                    return Some((CloseCode::Protocol, "a message breaks the channel protocol"));
                }
            }
        }
    }

    /// The next message; `None` at the end.
    async fn read(&mut self) -> Result<Option<Message>, Idle> {
        loop {
            let deadline = self.shared.activity.last() + self.agreement.idle;
            match timeout_at(deadline, self.stream.next()).await {
                Ok(message) => {
                    self.shared.activity.note();
                    return Ok(message.and_then(Result::ok));
                }
                Err(_) if self.shared.activity.last() + self.agreement.idle > Instant::now() => {}
                Err(_) => return Err(Idle),
            }
        }
    }

    async fn data(&mut self, channel: u8, mut bytes: Bytes) {
        // Channels that nobody reads, or that do not exist, may be written to.
        let Some(Some(input)) = self.inputs.get(usize::from(channel)) else { return };
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(READ_BUFFER));
            input.give(piece).await;
        }
    }
}
