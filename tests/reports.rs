//! What is reported of pods and containers: how they ended, what they have, what commands in
//! them wrote.

mod common;

use std::{fs, path::PathBuf};

use common::{Node, requests};
use criquet::cri::v1;
use prost::Message;
use serde_json::Value;
use tonic::Code;

/// What the kubelet and crictl take in one message.
const LONGEST: usize = 16 << 20;

#[tokio::test]
async fn an_end_for_want_of_memory_says_who_was_killed() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("memory").await;
    let hungry = |name: &str, script: &str| {
        let mut config = requests::script(name, script);
        requests::resources(&mut config).memory_limit_in_bytes = 20 << 20;
        config
    };
    // The shell survives its child, and ends well or not.
    for (name, script, code) in [
        ("well", "tail /dev/zero; exit 0", 0),
        ("not-well", "tail /dev/zero; exit 3", 3),
        ("passed-on", "tail /dev/zero; exit $?", 137),
    ] {
        let (status, _) = node.result_of(&pod, hungry(name, script)).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, "OOMKilled"), "{name}");
        let words = format!("1 process other than the main one, which ended with exit code {code}");
        assert!(status.message.contains(&words), "{}", status.message);
    }
    let mut main = hungry("main", "");
    main.command = ["tail", "/dev/zero"].map(str::to_owned).into();
    let (status, _) = node.result_of(&pod, main).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    assert!(status.message.contains("killed the main process:"), "{}", status.message);
    // A container that was killed by somebody else was not out of memory.
    let id = node.launch(&pod, hungry("stopped", "sleep 1000")).await;
    node.stop(&id, 0).await.unwrap();
    let status = node.end_of(&id).await;
    assert_eq!((status.reason.as_str(), status.message.as_str()), ("Error", ""));

    // It is still known when the end came while no daemon was there.
    let late = "sleep 3; tail /dev/zero; exit 0";
    let id = node.launch(&pod, hungry("late", late)).await;
    node.kill_daemon();
    let record = node.path("state/pods").join(&pod).join(format!("{id}.exit"));
    common::eventually("the monitor records the end", async || record.exists()).await;
    node.start_daemon().await;
    let status = node.end_of(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "OOMKilled"));
    assert!(status.message.contains("1 process other than the main one"), "{}", status.message);
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn what_a_command_writes_is_cut_to_what_clients_take() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("output").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let mut run = async |script: &str| {
        let request = v1::ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["sh", "-c", script].map(str::to_owned).into(),
            timeout: 60,
        };
        node.runtime.exec_sync(request).await.unwrap()
    };
    let both = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 7";
    let answer = run(both).await;
    let message = answer.get_ref();
    assert!(message.encoded_len() <= LONGEST, "{}", message.encoded_len());
    assert!(message.encoded_len() + 128 > LONGEST, "{}", message.encoded_len());
    assert_eq!(message.stdout.len(), message.stderr.len());
    assert_eq!(message.exit_code, 7);
    assert_eq!(answer.metadata().get("criquet-stdout-bytes").unwrap(), "20000000");
    assert_eq!(answer.metadata().get("criquet-stderr-bytes").unwrap(), "20000000");

    let answer = run("head -c 20000000 /dev/zero; echo whole >&2").await;
    assert_eq!(answer.get_ref().stderr, b"whole\n", "the short one is whole");
    assert!(answer.get_ref().encoded_len() <= LONGEST);
    assert!(answer.metadata().get("criquet-stderr-bytes").is_none());

    let answer = run("echo little").await;
    assert_eq!(answer.get_ref().stdout, b"little\n");
    assert!(answer.metadata().get("criquet-stdout-bytes").is_none());
    node.remove_pod(&pod).await.unwrap();
}
