//! A monitor that does not answer, or that is no more.

use criquet::cri::v1;
use rustix::process::{Signal, kill_process};
use tonic::Code;

use crate::common::{Node, answered, eventually, leaks, requests};

const READY: i32 = v1::PodSandboxState::SandboxReady as i32;
const NOT_READY: i32 = v1::PodSandboxState::SandboxNotready as i32;

#[tokio::test]
async fn a_monitor_that_hangs_holds_up_its_own_pod_alone_and_is_taken_up_when_it_goes_on() {
    requires_root!();
    let mut node = Node::start().await;
    let bad = node.pod("bad").await;
    let inside = node.launch(&bad, requests::script("c", "sleep 1000")).await;
    let good = node.pod("good").await;
    let other = node.launch(&good, requests::script("c", "sleep 1000")).await;
    let monitor = node.monitor_of(&bad);
    kill_process(monitor, Signal::STOP).unwrap();

    let error = answered("exec", node.exec(&inside, "true", 30)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains("does not answer"), "{error}");
    let status = node.pod_status(&bad).await.unwrap();
    assert_eq!(status.state, NOT_READY, "the kubelet is told");
    assert_eq!(node.output(&other, "echo fine").await, "fine");
    let error = answered("start", node.create(&bad, requests::script("d", "true"))).await;
    assert_eq!(error.unwrap_err().code(), Code::Unavailable);

    kill_process(monitor, Signal::CONT).unwrap();
    eventually("it is ready again", async || node.pod_status(&bad).await.unwrap().state == READY)
        .await;
    assert_eq!(node.output(&inside, "echo back").await, "back");
    for pod in [bad, good] {
        node.remove_pod(&pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_pod_whose_monitor_hangs_is_stopped_and_removed_without_it() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("bad").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let second = node.launch(&pod, requests::script("d", "sleep 1000")).await;
    kill_process(node.monitor_of(&pod), Signal::STOP).unwrap();
    answered("StopContainer", node.stop(&container, 0)).await.unwrap();
    assert_eq!(node.status(&container).await.unwrap().exit_code, 137);
    answered("RemoveContainer", node.remove(&container)).await.unwrap();
    answered("RemovePodSandbox", node.remove_pod(&pod)).await.unwrap();
    assert!(node.status(&second).await.is_err());
    leaks::assert_nothing_left(&node).await;
    assert!(node.monitors().is_empty(), "the monitor is killed");
}

#[tokio::test]
async fn a_daemon_that_starts_beside_a_hung_monitor_serves_at_once() {
    requires_root!();
    let mut node = Node::start().await;
    let bad = node.pod("bad").await;
    let inside = node.launch(&bad, requests::script("c", "sleep 1000")).await;
    let good = node.pod("good").await;
    let other = node.launch(&good, requests::script("c", "sleep 1000")).await;
    let monitor = node.monitor_of(&bad);
    kill_process(monitor, Signal::STOP).unwrap();
    // More than the backlog of its socket holds.
    for _ in 0..20 {
        node.kill_daemon();
        node.start_daemon().await;
    }
    assert_eq!(node.output(&other, "echo fine").await, "fine");
    eventually("it is told that the pod does not answer", async || {
        node.pod_status(&bad).await.unwrap().state == NOT_READY
    })
    .await;
    kill_process(monitor, Signal::CONT).unwrap();
    eventually("it is taken up", async || node.exec(&inside, "true", 5).await.is_ok()).await;
    let status = node.status(&inside).await.unwrap();
    assert_eq!(status.state, i32::from(v1::ContainerState::ContainerRunning));
    for pod in [bad, good] {
        node.remove_pod(&pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn with_fewer_descriptors_than_pods_none_of_them_is_ended() {
    requires_root!();
    let mut node = Node::start().await;
    let mut containers = Vec::new();
    for number in 0..6 {
        let pod = node.pod(&format!("p{number}")).await;
        containers.push(node.launch(&pod, requests::script("c", "sleep 1000")).await);
    }
    node.kill_daemon();
    // Room for two connections beside everything else: 128 for others, a quarter for meters.
    node.start_daemon_with_descriptors(173, 173).await;
    eventually("some are not ready", async || {
        let pods = node.pods(v1::PodSandboxFilter::default()).await;
        pods.iter().filter(|pod| pod.state == NOT_READY).count() == 4
    })
    .await;
    assert!(node.log().contains("LimitNOFILE"), "it is told what to do");
    node.kill_daemon();
    node.start_daemon().await;
    for container in &containers {
        assert_eq!(node.output(container, "echo here").await, "here");
    }
    for pod in node.pods(v1::PodSandboxFilter::default()).await {
        node.remove_pod(&pod.id).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn the_daemon_takes_the_descriptors_that_it_may_have_and_containers_do_not_inherit_them() {
    requires_root!();
    let mut node = Node::start().await;
    node.kill_daemon();
    // The soft limit has room for two connections.
    node.start_daemon_with_descriptors(173, 4096).await;
    let mut pods = Vec::new();
    for number in 0..6 {
        pods.push(node.pod(&format!("p{number}")).await);
    }
    let script = requests::script("c", "echo $(ulimit -Sn) $(ulimit -Hn)");
    let (_, limits) = node.result_of(&pods[0], script).await;
    assert_eq!(limits, "173 4096");
    for pod in &pods {
        node.remove_pod(pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}
