//! The first process of a PID namespace that containers share.

use std::fs;

use crate::common::{Node, leaks, requests};
use criquet::cri::v1;

fn shared() -> Option<v1::NamespaceOption> {
    Some(v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() })
}

/// A container that may trace makes the init its own: that must be nothing to have.
#[tokio::test]
async fn the_init_of_a_pod_is_of_no_use_to_a_tracer() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "init");
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = shared();
    let pod = node.run(config).await.unwrap();
    let monitor = node.monitor_of(&pod).as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    let init = children.trim();
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "it has no filter: {status}");
    let cgroups = fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
    let own = format!("/{}/{pod}/init", node.cgroup);
    for line in cgroups.lines() {
        let (rest, path) = line.split_at(line.rfind(":/").unwrap() + 1);
        let unused = ["name=", "rdma", "misc", "perf", "net_", "0::"];
        let controlled = ["pids", "devices", "memory"].iter().any(|name| rest.contains(name));
        assert!(
            path == own || (!controlled && unused.iter().any(|name| rest.contains(name))),
            "{line} is not below the pod"
        );
    }
    // It still does what it is there for, and nothing of it stays.
    let mut config = requests::script("c", "(sleep 0.1 &) ; sleep 1000");
    requests::security(&mut config).namespace_options = shared();
    let id = node.launch(&pod, config).await;
    crate::common::eventually("the orphan is reaped", async || {
        node.output(&id, "ps -o args | grep -c 'sleep 0[.]1' || true").await == "0"
    })
    .await;
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
