//! `criquet reset`, with which a node that has Criquet gets rid of its pods.

mod common;

use std::process::Output;

use common::{Node, leaks, requests};

fn reset(node: &Node, arguments: &[&str]) -> Output {
    let mut command = node.inside(env!("CARGO_BIN_EXE_criquet"));
    command.arg("reset").arg("--config").arg(node.path("config.toml")).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_reset_names_pods_and_ends_them() {
    requires_root!();
    let mut node = Node::start().await;
    for name in ["one", "two"] {
        let pod = node.pod(name).await;
        // The second one has to be killed.
        let script = match name {
            "one" => "trap 'exit 0' TERM; while true; do sleep 0.1; done",
            _ => "trap '' TERM; while true; do sleep 0.1; done",
        };
        node.launch(&pod, requests::script(name, script)).await;
    }

    let refused = reset(&node, &["--yes"]);
    assert!(!refused.status.success());
    let error = text(&refused.stderr);
    assert!(error.contains("systemctl stop criquet"), "{error}");
    assert_eq!(node.monitors().len(), 2);

    // As another runtime would be told, which keeps serving.
    let third = node.pod("three").await;
    node.launch(&third, requests::script("three", "sleep 100")).await;
    node.stop_pod(&third).await.unwrap();
    let endpoint = format!("unix://{}", node.path("criquet.sock").display());
    let named = reset(&node, &["--endpoint", &endpoint]);
    let output = text(&named.stdout);
    assert!(!named.status.success() && output.contains("would end tests/three"), "{output}");
    node.remove_pod(&third).await.unwrap();

    node.kill_daemon();
    let named = reset(&node, &[]);
    let output = text(&named.stdout);
    assert!(!named.status.success());
    for expected in ["would end tests/one", "would end tests/two", "reset --yes"] {
        assert!(output.contains(expected), "{output}{}", text(&named.stderr));
    }
    assert_eq!(node.monitors().len(), 2);

    let ended = reset(&node, &["--yes", "--grace", "1"]);
    let output = text(&ended.stdout);
    assert!(ended.status.success(), "{output}{}", text(&ended.stderr));
    for expected in ["ended tests/one", "ended tests/two", "network is removed"] {
        assert!(output.contains(expected), "{output}");
    }
    leaks::assert_nothing_left(&node).await;
    let links = text(&node.inside("ip").args(["-o", "link"]).output().unwrap().stdout);
    assert!(!links.contains("criquet0"), "{links}");

    // Nothing is there to end any more, and that is no mistake.
    assert!(reset(&node, &["--yes"]).status.success());
}

#[test]
fn a_node_without_pods_needs_no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    let (root, state) = (directory.path().join("root"), directory.path().join("state"));
    std::fs::write(&config, format!("root = {root:?}\nstate = {state:?}\n")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_criquet"))
        .args(["reset", "--yes", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "there are no pods\n");
    assert!(!root.exists() && !state.exists());
}
