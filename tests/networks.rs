//! Pods of the built-in network in series and many at once, and the proof that the host's
//! network is afterwards what it was before: devices, addresses, routes, neighbours, rules.
//!
//! `CRIQUET_SOAK_PODS` says how many in series, a fifth of them at once; without it, 50.

mod common;

use common::{Node, answered, eventually, leaks, requests};
use criquet::cri::v1;

/// How many of the first pods answer a packet: the host knows then where they are.
const SPOKEN_TO: usize = 20;

fn count() -> usize {
    let count = std::env::var("CRIQUET_SOAK_PODS").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(50)
}

/// All that a node's network is made of, as text.
async fn state(node: &Node) -> String {
    let mut text = String::new();
    for command in [
        &["nft", "list", "ruleset"][..],
        &["ip", "-brief", "address"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "rule"],
        &["ip", "neigh", "show"],
        &["tc", "qdisc", "show"],
    ] {
        let output = node.inside(command[0]).args(&command[1..]).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        text.push_str(&format!("# {}\n", command.join(" ")));
        text.push_str(&String::from_utf8(output.stdout).unwrap());
    }
    text
}

/// With a host port for every third of them, and limits of bandwidth for every fifth.
fn config(node: &Node, number: usize) -> v1::PodSandboxConfig {
    let mut config = requests::sandbox(node, &format!("pod{number}"));
    if number.is_multiple_of(3) {
        for protocol in [v1::Protocol::Tcp, v1::Protocol::Udp, v1::Protocol::Sctp] {
            config.port_mappings.push(v1::PortMapping {
                protocol: protocol.into(),
                container_port: 80,
                host_port: 20_000 + number as i32,
                ..Default::default()
            });
        }
    }
    if number.is_multiple_of(5) {
        for direction in ["ingress", "egress"] {
            let key = format!("kubernetes.io/{direction}-bandwidth");
            config.annotations.insert(key, "10M".to_owned());
        }
    }
    config
}

/// A packet to the pod, after which the host knows where it is.
async fn speak_to(node: &mut Node, pod: &str) {
    let status = node.pod_status(pod).await.unwrap();
    let network = status.network.unwrap();
    let more = network.additional_ips.into_iter().map(|one| one.ip);
    for ip in more.chain([network.ip]) {
        let send = "import socket, sys; a = sys.argv[1]; \
                    s = socket.socket(socket.AF_INET6 if ':' in a else socket.AF_INET, \
                    socket.SOCK_STREAM); s.settimeout(10); sys.exit(s.connect_ex((a, 80)) != 111)";
        let status = node.inside("python3").args(["-c", send, &ip]).status().unwrap();
        assert!(status.success(), "{ip} does not refuse");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_network_is_as_before_after_any_number_of_pods() {
    requires_root!();
    let mut node = Node::start().await;
    // The bridge and the table stay for the next pod.
    let first = node.run(config(&node, 0)).await.unwrap();
    node.remove_pod(&first).await.unwrap();
    leaks::assert_nothing_left(&node).await;
    // The kernel tells some time later that the last port has gone.
    let is_at_rest = |state: &str| {
        state.lines().any(|line| line.starts_with("criquet0 ") && line.contains(" DOWN "))
    };
    eventually("the bridge is at rest", async || is_at_rest(&state(&node).await)).await;
    let before = state(&node).await;

    for number in 0..count() {
        let pod = node.run(config(&node, number)).await.unwrap();
        if number < SPOKEN_TO {
            speak_to(&mut node, &pod).await;
        }
        node.remove_pod(&pod).await.unwrap();
    }
    settle(&node, &before).await;

    let runs = (0..count() / 5).map(|number| {
        let mut runtime = node.runtime.clone();
        let request =
            v1::RunPodSandboxRequest { config: Some(config(&node, number)), ..Default::default() };
        async move { runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id }
    });
    let pods = answered("RunPodSandbox of many", futures_util::future::join_all(runs)).await;
    assert_ne!(state(&node).await, before, "it shows pods");
    let removals = pods.into_iter().map(|pod| {
        let mut runtime = node.runtime.clone();
        async move {
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod };
            runtime.remove_pod_sandbox(request).await.unwrap();
        }
    });
    answered("RemovePodSandbox of many", futures_util::future::join_all(removals)).await;
    settle(&node, &before).await;
}

/// Waits until nothing is left of pods, and the host's network is as before.
async fn settle(node: &Node, before: &str) {
    leaks::assert_nothing_left(node).await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let now = state(node).await;
        if now == before {
            return;
        }
        assert!(std::time::Instant::now() < end, "before:\n{before}\nnow:\n{now}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
