//! Port forwarding: sessions, and programs in a pod that listen.

use std::{net::SocketAddr, path::PathBuf};

use tokio::net::{TcpListener, TcpStream};

use super::{
    Target,
    spdy::{self, Event, Receiver, Sender},
};

/// A session of frames.
pub async fn session(target: &Target) -> (Sender, Receiver) {
    let mut stream: TcpStream = target.connect().await;
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", "portforward.k8s.io"),
    ];
    let (status, head) = target.upgrade(&mut stream, &headers).await;
    assert_eq!(status, 101, "{head}");
    spdy::session(stream, false).await
}

/// Opens the streams of a connection: error and data.
pub async fn connect(sender: &Sender, port: u16, request: &str) -> (u32, u32) {
    let port = port.to_string();
    let headers = |kind| [("streamType", kind), ("port", &*port), ("requestID", request)];
    let error = sender.open(headers("error")).await;
    // As Go's client does: nothing is sent on it.
    sender.data(error, &[], true).await;
    (error, sender.open(headers("data")).await)
}

/// Reads a stream to its end; the other events are dropped. None where it is reset.
pub async fn read_to_end(receiver: &mut Receiver, id: u32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match receiver.next().await.expect("the session goes on") {
            Event::Data(other, more) if other == id => bytes.extend_from_slice(&more),
            Event::End(other) if other == id => return Some(bytes),
            Event::Reset(other) if other == id => return None,
            Event::GoAway => panic!("the session ends"),
            _ => {}
        }
    }
}

/// Listens in a network namespace.
pub fn listen(namespace: PathBuf, address: SocketAddr) -> TcpListener {
    let listener = std::thread::spawn(move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let file = std::fs::File::open(namespace).unwrap();
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).unwrap();
        std::net::TcpListener::bind(address).unwrap()
    });
    let listener = listener.join().unwrap();
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}
