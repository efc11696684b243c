//! What a client's session offers a command: its streams, and where its status goes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::status::{Format, Reporter};
use crate::streaming::{channel::Outgoing, handshake::Remote, queue::Incoming, spdy, websocket};

/// Which streams a command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The client writes to it.
    pub stdin: bool,
    /// The client reads it.
    pub stdout: bool,
    /// The client reads it; never with a terminal.
    pub stderr: bool,
    /// It has a terminal.
    pub terminal: bool,
}

/// A client and its streams.
pub struct Client {
    /// What it types.
    pub stdin: Option<Incoming>,
    /// What it is shown.
    pub stdout: Option<Outgoing>,
    /// What it is shown beside that.
    pub stderr: Option<Outgoing>,
    /// The sizes of its terminal.
    pub resize: Option<Incoming>,
    /// Where it is told what became of the command.
    pub reporter: Reporter,
    /// Its connection.
    pub session: Session,
}

/// The connection that the streams belong to.
pub enum Session {
    /// Streams of frames.
    Spdy(spdy::Session),
    /// Channels of messages.
    WebSocket(websocket::Session),
}

impl Session {
    /// A token that is cancelled when the connection is over.
    pub fn over(&self) -> CancellationToken {
        match self {
            Session::Spdy(session) => session.over(),
            Session::WebSocket(session) => session.over(),
        }
    }

    /// Ends the connection once the client has read everything.
    pub async fn close(self) {
        match self {
            Session::Spdy(session) => session.close().await,
            Session::WebSocket(session) => session.close().await,
        }
    }
}

/// Waits until the client has opened every stream that the command has. `None` when it does
/// not do so in time.
pub async fn of_spdy(
    mut session: spdy::Session,
    remote: Remote,
    wanted: Wanted,
    patience: Duration,
) -> Option<Client> {
    let resizes = wanted.terminal && remote.resizes;
    let flags = [true, wanted.stdin, wanted.stdout, wanted.stderr, resizes];
    let expected = flags.into_iter().filter(|&flag| flag).count();
    let (mut stdin, mut stdout, mut stderr, mut resize, mut error) = (None, None, None, None, None);
    let collect = async {
        for _ in 0..expected {
            let stream = session.accept().await?;
            let (incoming, outgoing) = (stream.incoming, Outgoing::Spdy(stream.outgoing));
            match stream.headers.get("streamType") {
                // Streams in one direction are closed in the other when the session ends.
                Some("stdin") if wanted.stdin => stdin = Some((incoming, outgoing)),
                Some("resize") if resizes => resize = Some((incoming, outgoing)),
                Some("stdout") if wanted.stdout => stdout = Some(outgoing),
                Some("stderr") if wanted.stderr => stderr = Some(outgoing),
                Some("error") => error = Some(outgoing),
                // A stream that nobody asked for is reset when it is dropped.
                _ => {}
            }
        }
        Some(())
    };
    let collected = tokio::time::timeout(patience, collect).await;
    let (Ok(Some(())), Some(error)) = (collected, error) else {
        session.close().await;
        return None;
    };
    let (stdin, stdin_end) = stdin.unzip();
    let (resize, resize_end) = resize.unzip();
    let ends = [stdin_end, resize_end].into_iter().flatten().collect();
    let reporter = Reporter::new(error, remote.format, ends);
    Some(Client { stdin, stdout, stderr, resize, reporter, session: Session::Spdy(session) })
}

/// The channels of a WebSocket, which need not be opened.
pub async fn of_websocket(
    session: websocket::Session,
    mut incoming: Vec<Option<Incoming>>,
    format: Format,
    wanted: Wanted,
) -> Client {
    let mut input = |channel: u8| incoming.get_mut(usize::from(channel)).and_then(Option::take);
    let output = |channel| Outgoing::WebSocket(session.outgoing(channel));
    let client = Client {
        stdin: input(STDIN),
        stdout: wanted.stdout.then(|| output(STDOUT)),
        stderr: wanted.stderr.then(|| output(STDERR)),
        resize: input(RESIZE),
        reporter: Reporter::new(output(ERROR), format, Vec::new()),
        session: Session::WebSocket(session),
    };
    client.greet().await;
    client
}

impl Client {
    /// Clients of the channel protocol wait for an empty message before they say anything.
    async fn greet(&self) {
        let first = self.stdout.as_ref().or(self.stderr.as_ref());
        // A client that is gone is met again when the command runs.
        let _ = match first {
            Some(outgoing) => outgoing.send(&mut "".into()).await,
            None => self.reporter.greet().await,
        };
    }
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// Which channels a client may write to.
pub fn read_channels(wanted: Wanted) -> [bool; 5] {
    [wanted.stdin, false, false, false, wanted.terminal]
}
