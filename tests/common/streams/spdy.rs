//! The client's side of SPDY.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criquet::streaming::spdy::{
    decoder::Decoder,
    frame::{self, Frame, Status},
    headers::{Deflater, Headers},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Mutex, Semaphore},
};

use super::{ERROR, RESIZE, Remote, STDERR, STDIN, STDOUT, Target, Wanted};

type Reading = Box<dyn AsyncRead + Send + Unpin>;
type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// How much a client with windows lets a stream send beyond what it has read.
const WINDOW: u32 = 32 * 1024;

/// The window of every stream at first.
const DEFAULT_WINDOW: usize = 64 * 1024;

/// The streams of a command by their channels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ids([u32; 5]);

impl Ids {
    /// The stream of a channel.
    pub fn of(&self, channel: u8) -> u32 {
        self.0[usize::from(channel)]
    }

    fn channel(&self, id: u32) -> Option<u8> {
        self.0.iter().position(|&other| other == id).map(|channel| channel as u8)
    }
}

/// The sending side; clones share it.
#[derive(Clone)]
pub struct Sender {
    output: Arc<Mutex<Output>>,
    /// What may be sent on a stream, where the client keeps to windows.
    window: Option<Arc<Semaphore>>,
}

struct Output {
    io: Writing,
    deflater: Deflater,
    next: u32,
}

/// The receiving side.
pub struct Receiver {
    io: Reading,
    decoder: Decoder,
    buffer: BytesMut,
    windows: Option<Sender>,
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Data(u32, Bytes),
    End(u32),
    Reset(u32),
    GoAway,
}

/// Both sides over a connection whose handshake is done.
pub async fn session<S>(stream: S, windows: bool) -> (Sender, Receiver)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let output = Output { io: Box::new(write), deflater: Deflater::default(), next: 1 };
    let window = windows.then(|| Arc::new(Semaphore::new(DEFAULT_WINDOW)));
    let sender = Sender { output: Arc::new(Mutex::new(output)), window };
    if windows {
        sender.raw(&frame::initial_window(WINDOW)).await;
    }
    let receiver = Receiver {
        io: Box::new(read),
        decoder: Decoder::default(),
        buffer: BytesMut::new(),
        windows: windows.then(|| sender.clone()),
    };
    (sender, receiver)
}

/// A session with all streams of a command.
pub async fn remote(
    target: &Target,
    mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    version: &str,
    wanted: Wanted,
    windows: bool,
) -> Remote {
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", version),
    ];
    let (status, head) = target.upgrade(&mut stream, &headers).await;
    assert_eq!(status, 101, "{head}");
    let (sender, receiver) = session(stream, windows).await;
    let mut ids = Ids::default();
    let resizes = wanted.tty && version >= "v3";
    for (channel, name, is_wanted) in [
        (ERROR, "error", true),
        (STDIN, "stdin", wanted.stdin),
        (STDOUT, "stdout", true),
        (STDERR, "stderr", wanted.stderr),
        (RESIZE, "resize", resizes),
    ] {
        if is_wanted {
            ids.0[usize::from(channel)] = sender.open([("streamType", name)]).await;
        }
    }
    Remote {
        sender: super::Sender::Spdy(sender, ids),
        receiver: super::Receiver::Spdy(Box::new(receiver), ids),
    }
}

impl Sender {
    /// Sends a frame; one that cannot be sent is for nobody.
    pub async fn raw(&self, frame: &[u8]) {
        let mut output = self.output.lock().await;
        let _ = output.io.write_all(frame).await;
        let _ = output.io.flush().await;
    }

    /// Opens a stream.
    pub async fn open<const N: usize>(&self, headers: [(&str, &str); N]) -> u32 {
        let mut output = self.output.lock().await;
        let id = output.next;
        output.next += 2;
        let block = output.deflater.block(&Headers::from(headers));
        let _ = output.io.write_all(&frame::open(id, &block)).await;
        let _ = output.io.flush().await;
        id
    }

    /// Sends data.
    pub async fn data(&self, id: u32, bytes: &[u8], fin: bool) {
        let chunks = bytes.chunks(WINDOW as usize).chain(bytes.is_empty().then_some(bytes));
        let mut left = bytes.len();
        for chunk in chunks {
            if let Some(window) = &self.window {
                window.acquire_many(chunk.len() as u32).await.unwrap().forget();
            }
            left -= chunk.len();
            let mut frame = frame::data(id, chunk.len(), fin && left == 0).to_vec();
            frame.extend_from_slice(chunk);
            self.raw(&frame).await;
        }
    }

    /// Gives a stream up.
    pub async fn reset(&self, id: u32) {
        self.raw(&frame::reset(id, Status::Cancel)).await;
    }
}

impl Receiver {
    /// What the server says next; none at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.frame().await? {
                Frame::Data { id, bytes, fin } => {
                    if !bytes.is_empty() {
                        self.taken(id, bytes.len() as u32).await;
                    }
                    match (bytes.is_empty(), fin) {
                        (true, true) => return Some(Event::End(id)),
                        (true, false) => {}
                        (false, _) => return Some(Event::Data(id, bytes)),
                    }
                }
                Frame::Reset { id } => return Some(Event::Reset(id)),
                Frame::GoAway => return Some(Event::GoAway),
                Frame::Window { id: 1.., delta } => self.granted(delta as usize),
                Frame::InitialWindow(size) => self.granted(size as usize - DEFAULT_WINDOW),
                _ => {}
            }
        }
    }

    /// The next bytes of a command; none once the session ends.
    pub async fn next_of(&mut self, ids: &Ids) -> Option<(u8, Bytes)> {
        loop {
            match self.next().await? {
                Event::Data(id, bytes) => return Some((ids.channel(id)?, bytes)),
                Event::GoAway => return None,
                Event::End(_) | Event::Reset(_) => {}
            }
        }
    }

    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            self.buffer.reserve(64 * 1024);
            if self.io.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    fn granted(&self, more: usize) {
        if let Some(window) = self.windows.as_ref().and_then(|sender| sender.window.as_ref()) {
            window.add_permits(more);
        }
    }

    async fn taken(&mut self, id: u32, length: u32) {
        if let Some(sender) = &self.windows {
            let updates = [frame::window_update(id, length), frame::window_update(0, length)];
            sender.raw(&updates.concat()).await;
        }
    }
}
