//! A client of the streaming server for both protocols: what it sends and gets, nothing more.

#![allow(dead_code, reason = "each program uses a part of it")]

pub mod ports;
pub mod spdy;
pub mod websocket;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Channels as WebSockets number them.
pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// SPDY with a version of the protocol, as Go's clients: without windows.
    Spdy(&'static str),
    /// The same with windows.
    SpdyWindows(&'static str),
    /// A WebSocket with a subprotocol.
    WebSocket(&'static str),
}

/// Every protocol that tells exit codes and ends of input.
pub const FULL: [Protocol; 3] = [
    Protocol::Spdy("v4.channel.k8s.io"),
    Protocol::SpdyWindows("v4.channel.k8s.io"),
    Protocol::WebSocket("v5.channel.k8s.io"),
];

/// Where a server is.
#[derive(Debug, Clone)]
pub struct Target {
    /// The network namespace that it listens in; none for this one.
    pub namespace: Option<PathBuf>,
    /// The URL that it gave out.
    pub url: String,
}

impl Target {
    fn authority(&self) -> &str {
        let rest = self.url.split_once("://").unwrap().1;
        rest.split_once('/').unwrap().0
    }

    fn path(&self) -> &str {
        let authority = self.authority();
        &self.url[self.url.find(authority).unwrap() + authority.len()..]
    }

    /// A connection to the server.
    pub async fn connect(&self) -> TcpStream {
        let port = self.authority().rsplit_once(':').unwrap().1.parse().unwrap();
        let namespace = self.namespace.clone();
        let stream = criquet::network::dial::loopback(namespace, port).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Asks for an upgrade; returns the status and the head of the answer.
    pub async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request =
            format!("GET {} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", self.path(), self.authority());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return (0, String::new()),
            }
        }
        let head = String::from_utf8(head).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
    }
}

/// Which streams a command has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    pub stdin: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The sending side.
pub enum Sender {
    Spdy(spdy::Sender, spdy::Ids),
    WebSocket(websocket::Sender),
}

/// The receiving side.
pub enum Receiver {
    Spdy(Box<spdy::Receiver>, spdy::Ids),
    WebSocket(websocket::Receiver),
}

/// A command that a client has a session with.
pub struct Remote {
    pub sender: Sender,
    pub receiver: Receiver,
}

/// All that a command said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Finished {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub status: Vec<u8>,
}

impl Finished {
    /// The exit code that the status tells; -1 for another failure.
    pub fn code(&self) -> i32 {
        let status = self.json();
        match (status["status"].as_str(), status["details"]["causes"][0]["message"].as_str()) {
            (Some("Success"), _) => 0,
            (_, Some(code)) => code.parse().unwrap_or(-1),
            _ => -1,
        }
    }

    /// The status.
    pub fn json(&self) -> serde_json::Value {
        let text = String::from_utf8_lossy(&self.status);
        serde_json::from_slice(&self.status).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Remote {
    /// Opens a session with all streams of a command.
    pub async fn open(target: &Target, protocol: Protocol, wanted: Wanted) -> Self {
        let stream = target.connect().await;
        match protocol {
            Protocol::Spdy(version) => spdy::remote(target, stream, version, wanted, false).await,
            Protocol::SpdyWindows(version) => {
                spdy::remote(target, stream, version, wanted, true).await
            }
            Protocol::WebSocket(version) => websocket::remote(target, stream, version).await,
        }
    }

    /// The next bytes, and the channel they are on; none at the end.
    pub async fn next(&mut self) -> Option<(u8, Bytes)> {
        self.receiver.next().await
    }

    /// Reads everything.
    pub async fn finish(self) -> Finished {
        self.receiver.finish().await
    }

    /// Reads standard output until it holds a text; returns all of it.
    pub async fn until(&mut self, text: &str) -> String {
        let mut output = String::new();
        while !output.contains(text) {
            let Some((channel, bytes)) = self.next().await else {
                panic!("no {text:?} in {output:?}")
            };
            let bytes = String::from_utf8_lossy(&bytes);
            assert_ne!(channel, ERROR, "no {text:?} in {output:?}: {bytes}");
            output.push_str(&bytes);
        }
        output
    }

    /// Sends a size of the terminal.
    pub async fn resize(&mut self, columns: u16, rows: u16) {
        let size = format!("{{\"Width\":{columns},\"Height\":{rows}}}");
        self.sender.send(RESIZE, size.as_bytes()).await;
    }
}

impl Receiver {
    /// The next bytes, and the channel they are on; none at the end.
    pub async fn next(&mut self) -> Option<(u8, Bytes)> {
        match self {
            Receiver::Spdy(receiver, ids) => receiver.next_of(ids).await,
            Receiver::WebSocket(receiver) => receiver.next().await,
        }
    }

    /// Reads everything.
    pub async fn finish(mut self) -> Finished {
        let mut finished = Finished::default();
        while let Some((channel, bytes)) = self.next().await {
            match channel {
                STDOUT => finished.stdout.extend_from_slice(&bytes),
                STDERR => finished.stderr.extend_from_slice(&bytes),
                ERROR => finished.status.extend_from_slice(&bytes),
                other => panic!("bytes on channel {other}"),
            }
        }
        finished
    }
}

impl Sender {
    /// Sends bytes on a channel; what cannot be sent is for nobody.
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) {
        match self {
            Sender::Spdy(sender, ids) => sender.data(ids.of(channel), bytes, false).await,
            Sender::WebSocket(sender) => sender.send(channel, bytes).await,
        }
    }

    /// Says that nothing follows on a channel.
    pub async fn close(&mut self, channel: u8) {
        match self {
            Sender::Spdy(sender, ids) => sender.data(ids.of(channel), &[], true).await,
            Sender::WebSocket(sender) => sender.close(channel).await,
        }
    }
}

/// The network namespace of a process.
pub fn namespace_of(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("ns/net")
}
