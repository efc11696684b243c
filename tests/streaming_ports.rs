//! Port forwarding: many connections in one session, their ends, and what does not listen.

mod common;

use std::{net::SocketAddr, path::PathBuf};

use common::{
    Node, requests,
    streams::{Target, ports, spdy, websocket},
};
use criquet::{cri::v1, streaming::websocket::Tunnel};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A pod and its network namespace.
async fn pod(node: &mut Node) -> (String, PathBuf) {
    let pod = node.pod("ports").await;
    let names = std::fs::read_dir(node.path("netns")).unwrap();
    let namespace = names.map(|entry| entry.unwrap().path()).next().unwrap();
    (pod, namespace)
}

fn listen(namespace: &std::path::Path, address: &str) -> (TcpListener, u16) {
    let address: SocketAddr = address.parse().unwrap();
    let listener = ports::listen(namespace.to_owned(), address);
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Reads everything and sends it back once the client has said all.
async fn answer_at_the_end(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_and_halves_that_close() {
    requires_root!();
    let mut node = Node::start().await;
    let (pod, namespace) = pod(&mut node).await;
    // IPv6 is tried where nobody listens on IPv4.
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (listener, port) = listen(&namespace, address);
        let server = tokio::spawn(answer_at_the_end(listener));
        let (sender, mut receiver) = ports::session(&node.ports_url(&pod, &[]).await).await;
        let mut streams = Vec::new();
        for number in 0..50 {
            let (_, data) = ports::connect(&sender, port, &number.to_string()).await;
            sender.data(data, format!("hello {number}").as_bytes(), false).await;
            streams.push(data);
        }
        // Each answer comes once its half is closed, in any order.
        for (number, data) in streams.into_iter().enumerate().rev() {
            sender.data(data, b"!", true).await;
            let answer = ports::read_to_end(&mut receiver, data).await.unwrap();
            assert_eq!(String::from_utf8(answer).unwrap(), format!("hello {number}!"));
        }
        server.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_one_connection_leaves_the_others() {
    requires_root!();
    let mut node = Node::start().await;
    let (pod, namespace) = pod(&mut node).await;
    let (listener, port) = listen(&namespace, "127.0.0.1:0");
    let (sender, mut receiver) = ports::session(&node.ports_url(&pod, &[]).await).await;
    let (_, steady) = ports::connect(&sender, port, "steady").await;
    let (mut peer, _) = listener.accept().await.unwrap();
    // Nobody listens there.
    let (error, data) = ports::connect(&sender, 1, "closed").await;
    let words = ports::read_to_end(&mut receiver, error).await.unwrap();
    let words = String::from_utf8(words).unwrap();
    assert!(words.contains("error forwarding port 1"), "{words}");
    assert!(words.contains("refused"), "{words}");
    assert_eq!(ports::read_to_end(&mut receiver, data).await, None);
    // The program resets its connection.
    let (_, reset) = ports::connect(&sender, port, "reset").await;
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(ports::read_to_end(&mut receiver, reset).await, None);
    // The client resets its stream: the program's connection ends.
    let (_, given_up) = ports::connect(&sender, port, "given up").await;
    let (mut stream, _) = listener.accept().await.unwrap();
    sender.reset(given_up).await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    sender.data(steady, b"still", true).await;
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "still");
    peer.write_all(b"here").await.unwrap();
    drop(peer);
    assert_eq!(ports::read_to_end(&mut receiver, steady).await.unwrap(), b"here");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_belong_to_no_connection_are_reset() {
    requires_root!();
    let mut node = Node::start_with("warm_monitors = 0\n[streaming]\ncreation_timeout = 1").await;
    let (pod, _) = pod(&mut node).await;
    let (sender, mut receiver) = ports::session(&node.ports_url(&pod, &[]).await).await;
    for headers in [
        [("streamType", "data"), ("port", "0"), ("requestID", "a")],
        [("streamType", "data"), ("port", "65536"), ("requestID", "b")],
        [("streamType", "other"), ("port", "80"), ("requestID", "c")],
        // The other stream never comes.
        [("streamType", "data"), ("port", "80"), ("requestID", "d")],
    ] {
        let id = sender.open(headers).await;
        assert_eq!(ports::read_to_end(&mut receiver, id).await, None, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_through_websockets() {
    requires_root!();
    let mut node = Node::start().await;
    let (pod, namespace) = pod(&mut node).await;
    let (listener, port) = listen(&namespace, "127.0.0.1:0");
    for protocol in ["SPDY/3.1+portforward.k8s.io", "v2.portforward.k8s.io"] {
        let target = node.ports_url(&pod, &[]).await;
        let (sender, mut receiver) = tunnel(&target, protocol).await;
        let (_, data) = ports::connect(&sender, port, "0").await;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[7; 300_000]).await.unwrap();
        drop(stream);
        assert_eq!(ports::read_to_end(&mut receiver, data).await.unwrap(), [7; 300_000]);
    }
    for protocol in ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""] {
        let target = node.ports_url(&pod, &[port.into(), 1]).await;
        let (mut sender, mut receiver) =
            websocket::session(&target, target.connect().await, protocol).await;
        let (mut stream, _) = listener.accept().await.unwrap();
        sender.send(0, b"ping").await;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        drop(stream);
        let mut channels = vec![Vec::new(); 4];
        while let Some((channel, bytes)) = receiver.next().await {
            channels[usize::from(channel)].extend_from_slice(&bytes);
        }
        let number = port.to_le_bytes();
        assert_eq!(
            (&bytes, &channels[0][..2], &channels[0][2..]),
            (b"ping", &number[..], &b"pong"[..])
        );
        assert_eq!(channels[1], number);
        assert_eq!(channels[2], 1_u16.to_le_bytes());
        assert!(String::from_utf8_lossy(&channels[3]).contains("error forwarding port 1"));
    }
}

/// A session of frames inside a WebSocket.
async fn tunnel(target: &Target, protocol: &str) -> (spdy::Sender, spdy::Receiver) {
    let socket = websocket::open(target, target.connect().await, protocol).await;
    spdy::session(Tunnel::new(socket), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_the_hosts_network_have_its_ports() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "host");
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options.as_mut().unwrap().network = v1::NamespaceMode::Node.into();
    let pod = node.run(config).await.unwrap();
    let (listener, port) = listen(&node.namespace(), "127.0.0.1:0");
    let server = tokio::spawn(answer_at_the_end(listener));
    let (sender, mut receiver) = ports::session(&node.ports_url(&pod, &[]).await).await;
    let (_, data) = ports::connect(&sender, port, "0").await;
    sender.data(data, b"host", true).await;
    assert_eq!(ports::read_to_end(&mut receiver, data).await.unwrap(), b"host");
    server.abort();
}
