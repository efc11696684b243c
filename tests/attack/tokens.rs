//! Clients of the streaming server that have no token.

use crate::common::{Node, requests, streams::Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PLAIN: Wanted = Wanted { stdin: false, stderr: true, tty: false };

const UPGRADE: [(&str, &str); 3] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "SPDY/3.1"),
    ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_token_is_in_nobodys_way() {
    requires_root!();
    let mut node = Node::start_with("warm_monitors = 0\n[streaming]\nmax_sessions = 2").await;
    let pod = node.pod("server").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let target = node.exec_url(&id, "true", PLAIN).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = target.connect().await;
        stream.write_all(b"GET /exec/guess HTTP/1.1\r\n").await.unwrap();
        held.push(stream);
    }
    let mut stream = target.connect().await;
    assert_eq!(target.upgrade(&mut stream, &UPGRADE).await.0, 101, "strangers hold all slots");
    // Those who came first have made room.
    let mut rest = Vec::new();
    let _ = held[0].read_to_end(&mut rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_the_end_of_its_connection() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("server").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let target = node.exec_url(&id, "true", PLAIN).await;
    let mut stream = target.connect().await;
    stream.write_all(b"GET /exec/guess HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    // An answer that does not say so is followed by others, until a timeout ends it.
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    // The guess has not used up what it was not for.
    let mut stream = target.connect().await;
    assert_eq!(target.upgrade(&mut stream, &UPGRADE).await.0, 101);
}
