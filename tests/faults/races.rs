//! Calls about the same thing at the same time.

use std::time::Duration;

use criquet::cri::v1;
use rustix::process::{Signal, kill_process};

use crate::common::{Node, answered, leaks, requests};

#[tokio::test]
async fn nothing_runs_after_a_stop_that_met_starts() {
    requires_root!();
    let mut node = Node::start().await;
    for round in 0..24_u64 {
        let pod = node.pod(&format!("pod{round}")).await;
        let mut starts = Vec::new();
        for number in 0..3 {
            let script = requests::script(&format!("c{number}"), "sleep 1000");
            let container_id = node.create(&pod, script).await.unwrap();
            let mut runtime = node.runtime.clone();
            starts.push(tokio::spawn(async move {
                let request = v1::StartContainerRequest { container_id };
                runtime.start_container(request).await
            }));
        }
        // Another moment of the starts each time.
        tokio::time::sleep(Duration::from_micros(300 * round)).await;
        answered("StopPodSandbox", node.stop_pod(&pod)).await.unwrap();
        for start in starts {
            // It came before the stop, or was ended by it.
            let _ = answered("StartContainer", start).await.unwrap();
        }
        for container in node.containers(v1::ContainerFilter::default()).await {
            let running = i32::from(v1::ContainerState::ContainerRunning);
            assert_ne!(container.state, running, "round {round}");
        }
        node.remove_pod(&pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn what_is_removed_while_its_monitor_dies_does_not_come_back() {
    requires_root!();
    let mut node = Node::start().await;
    for round in 0..16_u64 {
        let pod = node.pod(&format!("pod{round}")).await;
        let mut removals = Vec::new();
        for number in 0..4 {
            let script = requests::script(&format!("c{number}"), "sleep 1000");
            let container_id = node.launch(&pod, script).await;
            removals.push(v1::RemoveContainerRequest { container_id });
        }
        let monitor = node.monitor_of(&pod);
        let removals: Vec<_> = removals
            .into_iter()
            .map(|request| {
                let mut runtime = node.runtime.clone();
                tokio::spawn(async move { runtime.remove_container(request).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(200 * round)).await;
        kill_process(monitor, Signal::KILL).unwrap();
        for removal in removals {
            let _ = answered("RemoveContainer", removal).await.unwrap();
        }
        answered("RemovePodSandbox", node.remove_pod(&pod)).await.unwrap();
    }
    assert!(node.containers(v1::ContainerFilter::default()).await.is_empty());
    node.kill_daemon();
    node.start_daemon().await;
    assert!(node.containers(v1::ContainerFilter::default()).await.is_empty());
    assert!(node.pods(v1::PodSandboxFilter::default()).await.is_empty());
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_container_that_is_removed_while_it_starts_runs_no_more() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    for round in 0..24_u64 {
        let script = requests::script(&format!("c{round}"), "sleep 1000");
        let container = node.create(&pod, script).await.unwrap();
        let mut runtime = node.runtime.clone();
        let request = v1::StartContainerRequest { container_id: container.clone() };
        let start = tokio::spawn(async move { runtime.start_container(request).await });
        tokio::time::sleep(Duration::from_micros(300 * round)).await;
        answered("RemoveContainer", node.remove(&container)).await.unwrap();
        let _ = answered("StartContainer", start).await.unwrap();
        assert!(node.status(&container).await.is_err(), "round {round}");
    }
    // The cgroups of containers whose processes run on would still be there.
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
