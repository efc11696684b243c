//! Exec with streams, by a client of our own over every protocol.

mod common;

use common::{
    Node, eventually, requests,
    streams::{FULL, Protocol, Remote, STDIN, Wanted},
};

const PLAIN: Wanted = Wanted { stdin: false, stderr: true, tty: false };
const INPUT: Wanted = Wanted { stdin: true, stderr: true, tty: false };
const TERMINAL: Wanted = Wanted { stdin: true, stderr: false, tty: true };

async fn node_with_container() -> (Node, String) {
    let mut node = Node::start().await;
    let pod = node.pod("exec").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    (node, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_exit_codes() {
    requires_root!();
    let (mut node, id) = node_with_container().await;
    for protocol in [
        Protocol::Spdy("v4.channel.k8s.io"),
        Protocol::SpdyWindows("v4.channel.k8s.io"),
        Protocol::WebSocket("v5.channel.k8s.io"),
        Protocol::WebSocket("v4.channel.k8s.io"),
        Protocol::WebSocket("v4.base64.channel.k8s.io"),
    ] {
        for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)] {
            let script = format!("echo out; echo err >&2; {script}");
            let target = node.exec_url(&id, &script, PLAIN).await;
            let finished = Remote::open(&target, protocol, PLAIN).await.finish().await;
            let got = (finished.text(), &finished.stderr[..], finished.code());
            assert_eq!(got, ("out\n".to_owned(), &b"err\n"[..], code), "{protocol:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_protocols_tell_failures_in_words() {
    requires_root!();
    let (mut node, id) = node_with_container().await;
    for protocol in [
        Protocol::Spdy("v3.channel.k8s.io"),
        Protocol::Spdy("v2.channel.k8s.io"),
        Protocol::Spdy("channel.k8s.io"),
        Protocol::WebSocket("channel.k8s.io"),
        Protocol::WebSocket("base64.channel.k8s.io"),
        Protocol::WebSocket(""),
    ] {
        for (script, words) in
            [("true", ""), ("exit 7", "command terminated with non-zero exit code: exit status 7")]
        {
            let target = node.exec_url(&id, script, PLAIN).await;
            let finished = Remote::open(&target, protocol, PLAIN).await.finish().await;
            assert_eq!(String::from_utf8_lossy(&finished.status), words, "{protocol:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_is_an_error() {
    requires_root!();
    let (mut node, id) = node_with_container().await;
    for protocol in FULL {
        let command = vec!["no-such-program".to_owned()];
        let target = node.exec_command(&id, command, PLAIN).await;
        let finished = Remote::open(&target, protocol, PLAIN).await.finish().await;
        let message = finished.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("executable file not found in $PATH"), "{message}");
        assert_eq!(finished.json()["code"], 500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_in_both_directions() {
    requires_root!();
    let (mut node, id) = node_with_container().await;
    let data: Vec<u8> =
        (0..16_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for protocol in FULL {
        let target = node.exec_url(&id, "cat; echo end >&2", INPUT).await;
        let Remote { mut sender, receiver } = Remote::open(&target, protocol, INPUT).await;
        let sent = data.clone();
        let sending = tokio::spawn(async move {
            for chunk in sent.chunks(100_000) {
                sender.send(STDIN, chunk).await;
            }
            sender.close(STDIN).await;
            sender
        });
        let finished = receiver.finish().await;
        drop(sending.await);
        assert!(finished.stdout == data, "{protocol:?}: {} bytes", finished.stdout.len());
        assert_eq!(finished.stderr, b"end\n");
        assert_eq!(finished.code(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_holds_the_output_is_not_waited_for() {
    requires_root!();
    let (mut node, id) = node_with_container().await;
    for protocol in FULL {
        let target = node.exec_url(&id, "sleep 1000 & echo done; exit 5", PLAIN).await;
        let finished = Remote::open(&target, protocol, PLAIN).await.finish().await;
        assert_eq!((finished.text().as_str(), finished.code()), ("done\n", 5), "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_a_name() {
    requires_root!();
    let (mut node, id) = node_with_container().await;
    for protocol in FULL {
        let script = "test -t 0 && test -t 2 && echo $TERM; stty size; read line; stty size";
        let target = node.exec_url(&id, script, TERMINAL).await;
        let mut remote = Remote::open(&target, protocol, TERMINAL).await;
        let output = remote.until("24 80").await;
        assert!(output.contains("xterm"), "{output:?}");
        remote.resize(101, 31).await;
        // The terminal changes before the line is read: sizes and keys come by two streams.
        let probe = "for i in $(seq 500); do \
            stty size < $(ls /dev/pts/[0-9]* | tail -1) | grep -q '31 101' && exit 0; \
            usleep 10000; done; exit 1";
        assert_eq!(node.exec(&id, probe, 30).await.unwrap().exit_code, 0);
        remote.sender.send(STDIN, b"\r").await;
        remote.until("31 101").await;
        assert_eq!(remote.finish().await.code(), 0, "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_hangs_its_terminal_up() {
    requires_root!();
    let (mut node, id) = node_with_container().await;
    for (number, protocol) in FULL.into_iter().enumerate() {
        let script = format!(
            "trap 'echo gone > /tmp/hung-up-{number}; exit' HUP; echo ready; while :; do sleep 0.1; done"
        );
        let target = node.exec_url(&id, &script, TERMINAL).await;
        let mut remote = Remote::open(&target, protocol, TERMINAL).await;
        remote.until("ready").await;
        drop(remote);
        let file = format!("cat /tmp/hung-up-{number}");
        eventually("the shell is hung up", async || {
            node.exec(&id, &file, 10).await.unwrap().exit_code == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_terminal_goes_on_without_its_client() {
    requires_root!();
    let (mut node, id) = node_with_container().await;
    for (number, protocol) in FULL.into_iter().enumerate() {
        // Its input ends, and more than a pipe holds is written to nobody.
        let script = format!("echo ready; cat; seq 200000; echo on > /tmp/went-on-{number}");
        let target = node.exec_url(&id, &script, INPUT).await;
        let mut remote = Remote::open(&target, protocol, INPUT).await;
        remote.until("ready").await;
        drop(remote);
        let file = format!("cat /tmp/went-on-{number}");
        eventually("the command ends", async || {
            node.exec(&id, &file, 10).await.unwrap().exit_code == 0
        })
        .await;
    }
}
