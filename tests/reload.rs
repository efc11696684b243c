//! SIGHUP: what of a changed configuration takes effect while pods run.

mod common;

use std::fs;

use common::{Node, eventually, requests};
use criquet::cri::v1;
use rustix::process::{Pid, Signal, kill_process};

fn change(node: &Node, from: &str, to: &str) {
    let path = node.path("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn hang_up(node: &Node) {
    let pid = Pid::from_raw(node.daemon_pid().cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

/// Waits for a line of the log with all of these words.
async fn told(node: &Node, words: &[&str]) {
    let has_them = |line: &str| words.iter().all(|word| line.contains(word));
    let what = format!("the log has a line with {words:?}");
    eventually(&what, async || node.log().lines().any(has_them)).await;
}

#[tokio::test]
async fn what_can_change_does_and_the_rest_is_named() {
    requires_root!();
    let more = "warm_monitors = 0\nruntime_handlers = [\"one\"]";
    let mut node = Node::start_with(more).await;
    let pod = node.pod("stays").await;
    let app = node.launch(&pod, requests::script("app", "sleep 1000")).await;
    let before = node.runtime.status(v1::StatusRequest { verbose: true }).await.unwrap();
    assert!(before.into_inner().info["config"].contains("\"seccompDefault\":false"));

    change(&node, "[\"one\"]", "[\"one\", \"two\"]");
    change(&node, "log_level = \"debug\"", "log_level = \"warn\"");
    change(&node, "warm_monitors = 0", "warm_monitors = 3");
    let path = node.path("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen("[cni]", "[security]\nseccomp_default = true\n[cni]", 1);
    fs::write(&path, text.replacen("[registry]", "[registry]\nblocked = [\"quay.io\"]", 1))
        .unwrap();
    hang_up(&node);
    told(&node, &["log_level", "debug", "warn", "takes effect"]).await;
    told(&node, &["runtime_handlers", "two", "takes effect"]).await;
    told(&node, &["security.seccomp_default", "false", "true", "takes effect"]).await;
    told(&node, &["registry.blocked", "quay.io", "takes effect"]).await;
    told(&node, &["warm_monitors", "0", "3", "restart"]).await;

    // Rules are there before the level is set, which is the last of it.
    let handler = |name: &str, of: &str| v1::RunPodSandboxRequest {
        config: Some(requests::sandbox(&node, name)),
        runtime_handler: of.to_owned(),
    };
    let (second, third) = (handler("second", "two"), handler("third", "three"));
    let status = node.runtime.status(v1::StatusRequest { verbose: true }).await.unwrap();
    let status = status.into_inner();
    assert!(status.info["config"].contains("\"seccompDefault\":true"), "{:?}", status.info);
    assert!(status.runtime_handlers.iter().any(|handler| handler.name == "two"));
    let second = node.runtime.run_pod_sandbox(second).await.unwrap().into_inner().pod_sandbox_id;
    let refused = node.runtime.run_pod_sandbox(third).await.unwrap_err();
    assert!(refused.message().contains("three"), "{refused}");
    let app2 = node.launch(&second, requests::script("app2", "sleep 1000")).await;
    let filter = "grep Seccomp: /proc/self/status";
    assert_eq!(node.output(&app2, filter).await.trim(), "Seccomp:\t2");
    let image = v1::ImageSpec { image: "quay.io/a/b".to_owned(), ..Default::default() };
    let pull = v1::PullImageRequest { image: Some(image), ..Default::default() };
    let refused = node.images.pull_image(pull).await.unwrap_err();
    assert!(refused.message().contains("block"), "{refused}");

    // What ran before goes on, and what is put off is told again.
    assert_eq!(node.output(&app, "echo here").await.trim(), "here");
    let count = |node: &Node| node.log().matches("warm_monitors").count();
    let told_before = count(&node);
    hang_up(&node);
    eventually("the restart is told of again", async || count(&node) > told_before).await;
}

#[tokio::test]
async fn a_faulty_file_changes_nothing_and_says_why() {
    requires_root!();
    let mut node = Node::start_with("warm_monitors = 0\nruntime_handlers = [\"one\"]").await;
    change(&node, "[\"one\"]", "[\"one\", \"two\"]");
    change(&node, "warm_monitors = 0", "warm_monitors = \"many\"");
    hang_up(&node);
    told(&node, &["the configuration is wrong", "nothing of it is applied"]).await;
    assert!(node.log().contains("warm_monitors"), "{}", node.log());
    let config = Some(requests::sandbox(&node, "pod"));
    let request = v1::RunPodSandboxRequest { config, runtime_handler: "two".to_owned() };
    let refused = node.runtime.run_pod_sandbox(request).await.unwrap_err();
    assert!(refused.message().contains("\"two\" is not configured"), "{refused}");

    change(&node, "warm_monitors = \"many\"", "warm_monitors = 0");
    hang_up(&node);
    told(&node, &["runtime_handlers", "takes effect"]).await;
    hang_up(&node);
    told(&node, &["nothing in it has changed"]).await;
}
