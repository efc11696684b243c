//! The client's side of WebSockets.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::{Remote, Target};

type Socket = WebSocketStream<TcpStream>;

/// The sending side.
pub struct Sender {
    sink: SplitSink<Socket, Message>,
    base64: bool,
}

/// The receiving side.
pub struct Receiver {
    stream: SplitStream<Socket>,
    base64: bool,
}

/// A WebSocket with a subprotocol; an empty one for none.
pub async fn open(target: &Target, mut stream: TcpStream, protocol: &str) -> Socket {
    let mut headers = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    if !protocol.is_empty() {
        headers.push(("Sec-WebSocket-Protocol", protocol));
    }
    let (status, head) = target.upgrade(&mut stream, &headers).await;
    assert_eq!(status, 101, "{head}");
    let told = head.to_ascii_lowercase().contains(&protocol.to_ascii_lowercase());
    assert!(told, "{protocol} is not in {head}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// A session with a command.
pub async fn remote(target: &Target, stream: TcpStream, protocol: &str) -> Remote {
    let (sender, receiver) = session(target, stream, protocol).await;
    Remote {
        sender: super::Sender::WebSocket(sender),
        receiver: super::Receiver::WebSocket(receiver),
    }
}

/// Both sides.
pub async fn session(target: &Target, stream: TcpStream, protocol: &str) -> (Sender, Receiver) {
    let base64 = protocol.contains("base64");
    let (sink, stream) = open(target, stream, protocol).await.split();
    (Sender { sink, base64 }, Receiver { stream, base64 })
}

impl Sender {
    /// Sends bytes on a channel; what cannot be sent is for nobody.
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = match self.base64 {
            true => Message::text(format!("{channel}{}", STANDARD.encode(bytes))),
            false => Message::binary([&[channel], bytes].concat()),
        };
        let _ = self.sink.send(message).await;
    }

    /// Closes a channel, in version 5.
    pub async fn close(&mut self, channel: u8) {
        let _ = self.sink.send(Message::binary(vec![255, channel])).await;
    }
}

impl Receiver {
    /// The next bytes, and the channel they are on; none at the end.
    pub async fn next(&mut self) -> Option<(u8, Bytes)> {
        loop {
            let payload = match self.stream.next().await?.ok()? {
                Message::Binary(payload) => payload,
                Message::Text(text) => text.into(),
                Message::Close(_) => return None,
                _ => continue,
            };
            let (&first, rest) = payload.split_first().unwrap();
            if rest.is_empty() {
                continue;
            }
            return Some(match self.base64 {
                true => (first - b'0', STANDARD.decode(rest).unwrap().into()),
                false => (first, payload.slice(1..)),
            });
        }
    }
}
