//! Attach: many clients at one container, its input, its terminal, and clients that do not read.

mod common;

use common::{
    Node, eventually, log_texts, requests,
    streams::{FULL, Protocol, Remote, STDIN, Wanted},
};
use criquet::cri::v1;

const OUTPUT: Wanted = Wanted { stdin: false, stderr: true, tty: false };
const INPUT: Wanted = Wanted { stdin: true, stderr: true, tty: false };
const TERMINAL: Wanted = Wanted { stdin: true, stderr: false, tty: true };

/// Says every line that it reads.
const ECHO: &str = "while read line; do echo \"said $line\"; done; echo over";

fn with_input(script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig { stdin: true, ..requests::script("attach", script) }
}

async fn launch(config: v1::ContainerConfig) -> (Node, String) {
    let mut node = Node::start().await;
    let pod = node.pod("attach").await;
    let id = node.launch(&pod, config).await;
    (node, id)
}

/// A client that is attached for sure: it has seen what another wrote.
async fn attach(node: &mut Node, id: &str, protocol: Protocol, wanted: Wanted) -> Remote {
    Remote::open(&node.attach_url(id, wanted).await, protocol, wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_see_the_output_and_none_what_was_before() {
    requires_root!();
    let (mut node, id) = launch(with_input(ECHO)).await;
    let mut first = attach(&mut node, &id, FULL[0], INPUT).await;
    first.sender.send(STDIN, b"one\n").await;
    first.until("said one\n").await;
    let mut others = Vec::new();
    for protocol in FULL {
        let mut other = attach(&mut node, &id, protocol, INPUT).await;
        // What it says itself shows that it is attached.
        other.sender.send(STDIN, b"here\n").await;
        let seen = other.until("said here\n").await;
        assert!(!seen.contains("said one"), "{seen:?}");
        others.push(other);
    }
    first.sender.send(STDIN, b"two\n").await;
    for other in &mut others {
        other.until("said two\n").await;
    }
    // The end of a client's input detaches it; the container and the others go on.
    let Remote { mut sender, receiver } = first;
    sender.close(STDIN).await;
    assert_eq!(receiver.finish().await.code(), 0);
    others[0].sender.send(STDIN, b"three\n").await;
    others[1].until("said three\n").await;
    drop(others);
    let mut again = attach(&mut node, &id, FULL[2], INPUT).await;
    again.sender.send(STDIN, b"four\n").await;
    again.until("said four\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_works_after_a_restart_of_the_daemon() {
    requires_root!();
    let (mut node, id) = launch(with_input(ECHO)).await;
    for protocol in FULL {
        let mut remote = attach(&mut node, &id, protocol, INPUT).await;
        remote.sender.send(STDIN, b"before\n").await;
        remote.until("said before\n").await;
        node.kill_daemon();
        while remote.next().await.is_some() {}
        node.start_daemon().await;
        let mut remote = attach(&mut node, &id, protocol, INPUT).await;
        remote.sender.send(STDIN, b"after\n").await;
        remote.until("said after\n").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_for_one_client_ends_with_it() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("once").await;
    for (number, protocol) in FULL.into_iter().enumerate() {
        let mut config = with_input(ECHO);
        config.stdin_once = true;
        config.metadata.as_mut().unwrap().attempt = number as u32;
        let id = node.launch(&pod, config).await;
        let Remote { mut sender, receiver } = attach(&mut node, &id, protocol, INPUT).await;
        sender.send(STDIN, b"last\n").await;
        sender.close(STDIN).await;
        // It goes on to see the output.
        assert_eq!(receiver.finish().await.text(), "said last\nover\n", "{protocol:?}");
        assert_eq!(node.end_of(&id).await.exit_code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_for_one_client_ends_with_its_daemon() {
    requires_root!();
    let config = v1::ContainerConfig { stdin_once: true, ..with_input(ECHO) };
    let (mut node, id) = launch(config).await;
    let mut remote = attach(&mut node, &id, FULL[0], INPUT).await;
    remote.sender.send(STDIN, b"hello\n").await;
    remote.until("said hello\n").await;
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.end_of(&id).await.exit_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_shared_and_has_the_size_of_its_client() {
    requires_root!();
    let script = "while read line; do stty size; done";
    let config = v1::ContainerConfig { tty: true, ..with_input(script) };
    let (mut node, id) = launch(config).await;
    for (number, protocol) in FULL.into_iter().enumerate() {
        let mut remote = attach(&mut node, &id, protocol, TERMINAL).await;
        let columns = 90 + 10 * number as u16;
        remote.resize(columns, 33).await;
        // Sizes and keys come by two streams, so that the first answers may be older.
        let size = format!("33 {columns}\r\n");
        let mut seen = String::new();
        while !seen.ends_with(&size) {
            remote.sender.send(STDIN, b"\r").await;
            seen = remote.until("0\r\n").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_nobody() {
    requires_root!();
    // More than sockets and pipes hold, at the pace of somebody who is waited for.
    let script = "read line; seq 3000000; echo over; read line";
    let (mut node, id) = launch(with_input(script)).await;
    let stuck = attach(&mut node, &id, FULL[0], OUTPUT).await;
    let Remote { mut sender, mut receiver } = attach(&mut node, &id, FULL[2], INPUT).await;
    sender.send(STDIN, b"go\n").await;
    let reading = tokio::spawn(async move {
        let (mut length, mut end) = (0, Vec::new());
        while !end.ends_with(b"over\n") {
            let (_, bytes) = receiver.next().await.expect("a client that reads is not cut off");
            length += bytes.len();
            end.extend_from_slice(&bytes);
            end.drain(..end.len().saturating_sub(5));
        }
        length
    });
    let expected: usize = (1..=3_000_000).map(|n: u32| n.to_string().len() + 1).sum();
    assert_eq!(reading.await.unwrap(), expected + 5);
    let log = node.path("logs").join("attach.log");
    eventually("the log is whole", async || log_texts(&log, "stdout").len() == 3_000_001).await;
    let finished = stuck.finish().await;
    assert_eq!(finished.code(), -1);
    let message = finished.json()["message"].to_string();
    assert!(message.contains("writes faster than this client reads"), "{message}");
    // What it got is the beginning, without a gap.
    let text = finished.text();
    let whole = text.rsplit_once('\n').unwrap().0;
    assert!(whole.lines().zip(1_u32..).all(|(line, number)| line == number.to_string()));
    assert!(whole.lines().count() < 3_000_000);
    sender.send(STDIN, b"end\n").await;
    assert_eq!(node.end_of(&id).await.exit_code, 0);
}
