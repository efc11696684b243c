//! Limits of writable layers, on a disk with project quotas.

use std::{path::PathBuf, process::Command};

use criquet::cri::v1;
use tonic::Code;

use super::disks::Disk;
use crate::common::{Node, answered, eventually, leaks, requests};

const ANNOTATION: &str = "io.criquet.writable-layer-limit";

/// A node with its root on a disk with project quotas, or the reason why there is none.
async fn node(limit: &str) -> Result<(Node, Disk), String> {
    let mut node = Node::start_with(&format!("writable_layer_limit = {limit:?}")).await;
    let disk = Disk::with_quotas(&mut node)?;
    node.start_daemon().await;
    Ok((node, disk))
}

macro_rules! requires_quotas {
    ($limit:expr) => {
        match node($limit).await {
            Ok(node) => node,
            Err(reason) => {
                eprintln!("SKIPPED: {} needs project quotas: {reason}", module_path!());
                return;
            }
        }
    };
}

fn with_annotation(node: &Node, name: &str, limit: &str) -> v1::PodSandboxConfig {
    let mut config = requests::sandbox(node, name);
    config.annotations.insert(ANNOTATION.to_owned(), limit.to_owned());
    config
}

async fn written(node: &mut Node, id: &str) -> u64 {
    let request = v1::ContainerStatsRequest { container_id: id.to_owned() };
    let stats = node.runtime.container_stats(request).await.unwrap().into_inner().stats.unwrap();
    let layer = stats.writable_layer.and_then(|layer| layer.used_bytes);
    layer.map_or(0, |bytes| bytes.value)
}

const FILL: &str = "dd if=/dev/zero of=/fill bs=64k 2>&1 | grep -c -e 'No space' -e 'quota'";

#[tokio::test]
async fn a_container_that_writes_beyond_its_limit_is_refused_and_nobody_else_is() {
    requires_root!();
    let (mut node, _disk) = requires_quotas!("4MiB");
    let pod = node.pod("pod").await;
    let greedy = node.launch(&pod, requests::script("greedy", "sleep 1000")).await;
    let other = node.launch(&pod, requests::script("other", "sleep 1000")).await;
    assert_eq!(node.output(&greedy, FILL).await, "1");
    assert_eq!(node.output(&other, "head -c 2000000 /dev/zero > /x && echo fine").await, "fine");
    eventually("what was written is known", async || {
        let bytes = written(&mut node, &greedy).await;
        bytes > 3_900_000 && bytes <= 4 << 20
    })
    .await;
    // The limit is the container's for as long as it is there.
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(
        node.output(&greedy, "head -c 100000 /dev/zero > /y 2> /dev/null; echo $?").await,
        "1"
    );
    // Its files go, and with them what it is charged.
    assert_eq!(
        node.output(&greedy, "rm /fill && head -c 100000 /dev/zero > /y; echo $?").await,
        "0"
    );
    for container in [&greedy, &other] {
        answered("RemoveContainer", node.remove(container)).await.unwrap();
    }
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left_but_mounts(&node, &["root"]).await;
    node.kill_daemon();
}

#[tokio::test]
async fn a_pod_asks_for_less_than_the_node_gives() {
    requires_root!();
    let (mut node, _disk) = requires_quotas!("16MiB");
    let config = with_annotation(&node, "pod", "1Mi");
    let pod = node.run(config).await.unwrap();
    let small = node.launch(&pod, requests::script("small", "sleep 1000")).await;
    assert_eq!(node.output(&small, FILL).await, "1");
    let size: u64 = node.output(&small, "stat -c %s /fill").await.parse().unwrap();
    assert!((900_000..=1 << 20).contains(&size), "{size}");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left_but_mounts(&node, &["root"]).await;
    node.kill_daemon();
}

#[tokio::test]
async fn a_limit_that_cannot_hold_is_refused() {
    requires_root!();
    let mut node = Node::start().await;
    // A file system without quotas, whatever the machine's disk has.
    let disk = Disk::below(&mut node);
    node.start_daemon().await;
    for (limit, code) in [("1Gi", Code::FailedPrecondition), ("many", Code::InvalidArgument)] {
        let config = with_annotation(&node, limit.to_lowercase().as_str(), limit);
        let pod = node.run(config).await.unwrap();
        let error = node.create(&pod, requests::script("c", "true")).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(ANNOTATION), "{error}");
        node.remove_pod(&pod).await.unwrap();
    }
    leaks::assert_nothing_left_but_mounts(&node, &["root"]).await;
    node.kill_daemon();
    drop(disk);
}

/// Makes an ext4 with project quotas in a file.
pub(super) fn format(file: &PathBuf) {
    let mut format = Command::new("mkfs.ext4");
    format.args(["-q", "-F", "-m", "0", "-O", "quota,project", "-E", "quotatype=prjquota"]);
    assert!(format.arg(file).status().unwrap().success());
}
