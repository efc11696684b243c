//! Figures: what is served is what is documented, and is what has happened.

use std::{collections::BTreeSet, path::Path};

use criquet::cri::v1;
use tonic::Code;

use crate::{
    common::{Node, eventually, requests},
    http,
};

pub const PORT: u16 = 9537;
pub const CONFIG: &str = "warm_monitors = 0\n[metrics]\nlisten = \"127.0.0.1:9537\"\n";

pub async fn metrics(node: &Node) -> String {
    http::get(node, PORT, "/metrics").await.expect("metrics are served")
}

/// Does something of everything that is counted.
pub async fn life(node: &mut Node) -> String {
    let pod = node.pod("pod").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    assert_eq!(node.output(&container, "echo here").await, "here");
    let resources = v1::LinuxContainerResources { cpu_shares: 512, ..Default::default() };
    let update = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.clone(),
        resources: Some(resources),
        ..Default::default()
    };
    node.runtime.update_pod_sandbox_resources(update).await.unwrap();
    let failed = node.start_container(&container).await.unwrap_err();
    assert_eq!(failed.code(), Code::FailedPrecondition, "{failed}");
    let image = v1::ImageSpec { image: "localhost:1/none:1".to_owned(), ..Default::default() };
    let request = v1::PullImageRequest { image: Some(image), ..Default::default() };
    node.images.pull_image(request).await.unwrap_err();
    pod
}

/// A figure, by the beginning of its line.
fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

fn families(text: &str) -> BTreeSet<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.into(), b.into())).collect()
}

#[tokio::test]
async fn every_family_is_documented_and_every_documented_one_is_served() {
    requires_root!();
    let mut node = Node::start_with(CONFIG).await;
    let pod = life(&mut node).await;
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let document = std::fs::read_to_string(document).unwrap();
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let (name, kind) = (cells.next()?.trim_end_matches('`'), cells.next()?);
        ["counter", "gauge", "histogram"].contains(&kind).then(|| (name.into(), kind.into()))
    });
    let documented: BTreeSet<(String, String)> = rows.collect();
    let served = families(&metrics(&node).await);
    let missing: Vec<_> = served.symmetric_difference(&documented).collect();
    assert!(missing.is_empty(), "in the document or served, and not both: {missing:#?}");
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn figures_are_what_has_happened() {
    requires_root!();
    let mut node = Node::start_with(CONFIG).await;
    let pod = life(&mut node).await;
    let mut text = String::new();
    // A text may be a second old, and an answer is counted when it is sent.
    eventually("the last call is counted", async || {
        text = metrics(&node).await;
        text.contains("method=\"PullImage\",code=")
    })
    .await;
    let calls = |method: &str, code: &str| {
        let labels = "service=\"runtime.v1.RuntimeService\"";
        format!("criquet_grpc_requests_total{{{labels},method=\"{method}\",code=\"{code}\"}}")
    };
    assert_eq!(figure(&text, &calls("RunPodSandbox", "OK")), 1.0);
    assert_eq!(figure(&text, &calls("StartContainer", "OK")), 1.0);
    assert_eq!(figure(&text, &calls("StartContainer", "FailedPrecondition")), 1.0);
    assert_eq!(figure(&text, "criquet_sandboxes{state=\"ready\"}"), 1.0);
    assert_eq!(figure(&text, "criquet_containers{state=\"running\"}"), 1.0);
    assert_eq!(figure(&text, "criquet_exec_sync_duration_seconds_count{result=\"success\"}"), 1.0);
    assert_eq!(figure(&text, "criquet_image_pulls_total{result=\"failure\"}"), 1.0);
    assert_eq!(figure(&text, "criquet_monitors"), 1.0);
    assert!(figure(&text, "criquet_monitors_memory_bytes{kind=\"private\"}") > 0.0);
    assert!(figure(&text, "process_open_fds") > 10.0);
    let kind = "operation=\"StartContainer\",kind=\"failed_precondition\"";
    assert_eq!(figure(&text, &format!("criquet_operation_errors_total{{{kind}}}")), 1.0);
    let stages = |operation: &str| -> BTreeSet<String> {
        let begin = format!(
            "criquet_operation_stage_duration_seconds_count{{operation=\"{operation}\",stage=\""
        );
        let lines = text.lines().filter_map(|line| line.strip_prefix(&begin));
        lines.filter_map(|line| line.split('"').next()).map(str::to_owned).collect()
    };
    for stage in ["starting the monitor", "setting up the network", "writing the pod's files"] {
        assert!(stages("RunPodSandbox").contains(stage), "{:?}", stages("RunPodSandbox"));
    }
    assert!(stages("UpdatePodSandboxResources").contains("changing its cgroup"));
    assert!(stages("CreateContainer").contains("making its files"));
    assert!(stages("StartContainer").contains("starting its program"));
    assert!(stages("ExecSync").contains("running the command"));
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn a_socket_serves_as_well_and_calls_of_strangers_make_no_new_figures() {
    requires_root!();
    let mut node = Node::start().await;
    let socket = node.path("metrics.sock");
    let config = node.path("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let listen = format!("{text}\n[metrics]\nlisten = \"unix://{}\"\n", socket.display());
    std::fs::write(&config, listen).unwrap();
    node.kill_daemon();
    node.start_daemon().await;
    let channel = criquet::admin::client::channel(node.path("criquet.sock"));
    for name in ["One", "Two", "Three"] {
        let path = format!("/stranger.v1.{name}/{name}").parse().unwrap();
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<v1::VersionRequest, v1::VersionResponse>::default();
        let request = tonic::Request::new(v1::VersionRequest::default());
        let status = client.unary(request, path, codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    }
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let unknown = "service=\"unknown\",method=\"unknown\",code=\"Unimplemented\"";
    assert_eq!(figure(&answer, &format!("criquet_grpc_requests_total{{{unknown}}}")), 3.0);
    assert!(!answer.contains("stranger"), "{answer}");
}
