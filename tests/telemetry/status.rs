//! `criquet status`: how the daemon is, and what it says of calls that are stuck.

use std::process::{Command, Output};

use criquet::cri::v1;
use serde_json::Value;

use crate::common::{Node, answered, eventually, hang::Hanging, requests};

fn criquet(node: &Node, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criquet"));
    let listen = format!("unix://{}", node.path("criquet.sock").display());
    command.args(arguments).args(["--listen", &listen]).env_remove("NO_COLOR").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn status(node: &Node) -> (i32, Value) {
    let output = criquet(node, &["status", "-o", "json"]);
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn a_daemon_that_is_well_says_what_there_is_and_one_that_is_gone_has_a_code() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let subscription = node.runtime.get_container_events(v1::GetEventsRequest {}).await.unwrap();
    let output = criquet(&node, &["status"]);
    let words = text(&output);
    assert_eq!(output.status.code(), Some(0), "{words}");
    for part in [
        " is well\n",
        "\n  network     ready\n",
        "\n  pods        1 ready\n",
        "\n  containers  1 running\n",
        "\n  subscribers 1, ",
    ] {
        assert!(words.contains(part), "{part:?} in\n{words}");
    }
    assert!(!words.contains('\x1b'), "nobody sees colours in a pipe");
    let (code, json) = status(&node);
    assert_eq!(code, 0);
    assert_eq!(json["pid"], node.daemon_pid());
    assert_eq!(json["subscribers"]["count"], 1);
    assert_eq!(json["operations"], Value::Array(Vec::new()));
    assert!(text(&criquet(&node, &["metrics"])).contains("# TYPE criquet_build_info gauge"));
    drop(subscription);
    node.remove_pod(&pod).await.unwrap();
    node.kill_daemon();
    let output = criquet(&node, &["status"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    node.start_daemon().await;
}

#[tokio::test]
async fn a_call_that_is_stuck_is_told_once_and_is_seen_everywhere() {
    requires_root!();
    let mut node = Node::start().await;
    let mut hanging = Hanging::at(&node.path("hang"));
    let pod = node.pod("pod").await;
    let mut config = requests::script("c", "sleep 1000");
    config.mounts = vec![v1::Mount {
        container_path: "/mnt".to_owned(),
        host_path: node.path("hang/volume").display().to_string(),
        ..Default::default()
    }];
    let creation = {
        let mut runtime = node.runtime.clone();
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(config),
            sandbox_config: None,
        };
        tokio::spawn(async move { runtime.create_container(request).await })
    };
    let stage = "looking at the sources of its mounts";
    eventually("the call is seen", async || status(&node).1["operations"][0]["stage"] == *stage)
        .await;
    eventually("that it is stuck is told", async || node.log().contains("a call is stuck")).await;
    let (code, json) = status(&node);
    assert_eq!((code, &json["operations"][0]["is_stuck"]), (1, &Value::from(true)), "{json:#}");
    // The thread that hangs is named, with its place in the kernel where that can be had.
    let kernel = json["operations"][0]["kernel"].as_str().unwrap();
    assert!(kernel.starts_with("process "), "{kernel}");
    let words = text(&criquet(&node, &["status"]));
    assert!(words.contains(" is not well\n") && words.contains("CreateContainer"), "{words}");
    assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");
    let figures = text(&criquet(&node, &["metrics"]));
    let stuck = "criquet_operations_stuck{operation=\"CreateContainer\"} 1\n";
    assert!(figures.contains(stuck), "{figures}");
    hanging.abort();
    answered("the creation", creation).await.unwrap().unwrap_err();
    eventually("that it goes on is told", async || node.log().contains("a stuck call goes on"))
        .await;
    assert_eq!(node.log().matches("a call is stuck").count(), 1);
    assert_eq!(status(&node).0, 0);
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn the_verbose_status_of_a_container_says_what_is_under_way_with_it() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let config = requests::script("c", "trap '' TERM; echo ready; while :; do sleep 1; done");
    let log = node.container_log(&config);
    let container = node.launch(&pod, config).await;
    eventually("it ignores the signal", async || {
        crate::common::log_texts(&log, "stdout") == ["ready".to_owned()]
    })
    .await;
    let stopping = {
        let mut runtime = node.runtime.clone();
        let request = v1::StopContainerRequest { container_id: container.clone(), timeout: 1000 };
        tokio::spawn(async move { runtime.stop_container(request).await })
    };
    let request = v1::ContainerStatusRequest { container_id: container.clone(), verbose: true };
    eventually("the stop is seen", async || {
        let answer = node.runtime.container_status(request.clone()).await.unwrap().into_inner();
        let info: Value = serde_json::from_str(&answer.info["info"]).unwrap();
        let stage = &info["stage"];
        stage["call"] == "StopContainer"
            && stage["name"] == "waiting for its end"
            && stage["stuck"] == false
    })
    .await;
    node.stop(&container, 0).await.unwrap();
    answered("the first stop", stopping).await.unwrap().unwrap();
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn networks_are_listed_and_the_built_in_one_is_removed() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "pod");
    config.port_mappings =
        vec![v1::PortMapping { container_port: 80, host_port: 8080, ..Default::default() }];
    let pod = node.run(config).await.unwrap();
    let words = text(&criquet(&node, &["network", "ls", "--check"]));
    for part in ["bridge criquet0, packets of ", "subnet 10.88.0.0/16, ", "/pod ", "8080->80/tcp"] {
        assert!(words.contains(part), "{part:?} in\n{words}");
    }
    let output = criquet(&node, &["network", "ls", "-o", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["pods"][0]["sandbox_id"], pod);
    assert_eq!(json["pods"][0]["addresses"][0], "10.88.0.2");
    let refused = criquet(&node, &["network", "rm"]);
    assert!(!refused.status.success());
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(reason.contains(&format!("the pod {pod}")), "{reason}");
    node.remove_pod(&pod).await.unwrap();
    assert!(criquet(&node, &["network", "rm"]).status.success());
    let links = text(&node.inside("ip").args(["-o", "link"]).output().unwrap());
    assert!(!links.contains("criquet0"), "{links}");

    // Without a daemon, and again refused for a pod that runs on.
    let alone = |node: &Node| {
        let program = env!("CARGO_BIN_EXE_criquet");
        let config = node.path("config.toml");
        node.inside(program).args(["network", "rm", "--config"]).arg(config).output().unwrap()
    };
    let pod = node.pod("other").await;
    node.kill_daemon();
    let refused = alone(&node);
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&pod), "{refused:?}");
    node.start_daemon().await;
    node.remove_pod(&pod).await.unwrap();
    node.kill_daemon();
    let removed = alone(&node);
    assert!(removed.status.success(), "{removed:?}");
    let links = text(&node.inside("ip").args(["-o", "link"]).output().unwrap());
    assert!(!links.contains("criquet0"), "{links}");
    node.start_daemon().await;
}
