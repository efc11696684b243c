//! A client of HTTP servers in the node's network namespace.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::Node;

/// The body of an answer; none without a server.
pub async fn get(node: &Node, port: u16, path: &str) -> Option<String> {
    let dialed = criquet::network::dial::loopback(Some(node.namespace()), port).await;
    let mut stream = dialed.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// A value in a query.
pub fn escape(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|b| if safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
