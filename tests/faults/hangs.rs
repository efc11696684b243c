//! File systems that never answer, where a pod has something to do with them.

use criquet::cri::v1;
use tonic::Code;

use crate::common::{Node, answered, eventually, hang::Hanging, leaks, requests};

/// A container with a volume of the hanging file system.
fn with_volume(node: &Node, name: &str) -> v1::ContainerConfig {
    let mut config = requests::script(name, "sleep 1000");
    config.mounts = vec![v1::Mount {
        container_path: "/mnt".to_owned(),
        host_path: node.path("hang/volume").display().to_string(),
        ..Default::default()
    }];
    config
}

#[tokio::test]
async fn the_source_of_a_mount_that_hangs_holds_up_one_creation() {
    requires_root!();
    let mut node = Node::start().await;
    let mut hanging = Hanging::at(&node.path("hang"));
    let pod = node.pod("bad").await;
    let first = node.launch(&pod, requests::script("first", "sleep 1000")).await;
    let mut creations = Vec::new();
    for number in 0..8 {
        let config = with_volume(&node, &format!("c{number}"));
        let mut runtime = node.runtime.clone();
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(config),
            sandbox_config: None,
        };
        creations.push(tokio::spawn(async move { runtime.create_container(request).await }));
    }
    // The same pod and others go on.
    let second = answered("create", node.create(&pod, requests::script("d", "sleep 1000"))).await;
    answered("start", node.start_container(&second.unwrap())).await.unwrap();
    assert_eq!(node.output(&first, "echo here").await, "here");
    let other = answered("another pod", node.pod("other")).await;
    assert!(creations.iter().all(|creation| !creation.is_finished()));
    answered("StopPodSandbox", node.stop_pod(&pod)).await.unwrap();
    for creation in creations {
        let error = answered("the creation", creation).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    }
    answered("RemovePodSandbox", node.remove_pod(&pod)).await.unwrap();
    hanging.abort();
    node.remove_pod(&other).await.unwrap();
    leaks::assert_nothing_left_but_mounts(&node, &["hang"]).await;
}

#[tokio::test]
async fn a_daemon_that_hangs_in_the_kernel_is_ended_and_replaced() {
    requires_root!();
    let mut node = Node::start().await;
    let mut hanging = Hanging::at(&node.path("hang"));
    let pod = node.pod("pod").await;
    let container = node.launch(&pod, requests::script("first", "sleep 1000")).await;
    let mut runtime = node.runtime.clone();
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(with_volume(&node, "c")),
        sandbox_config: None,
    };
    let creation = tokio::spawn(async move { runtime.create_container(request).await });
    let daemon = node.daemon_pid();
    eventually("a thread of the daemon waits in the kernel", async || {
        let tasks = std::fs::read_dir(format!("/proc/{daemon}/task")).unwrap().flatten();
        let waits = |task: std::fs::DirEntry| {
            let channel = std::fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
            channel.contains("request_wait_answer") || channel.contains("fuse")
        };
        tasks.into_iter().any(waits)
    })
    .await;
    // Killed, and unable to end.
    let old = node.kill_daemon_without_waiting();
    assert!(creation.await.unwrap().is_err());
    node.start_daemon().await;
    assert_eq!(node.output(&container, "echo here").await, "here");
    node.remove_pod(&pod).await.unwrap();
    hanging.abort();
    node.wait_for(old);
    leaks::assert_nothing_left_but_mounts(&node, &["hang"]).await;
}

#[tokio::test]
async fn the_log_directory_of_one_pod_that_hangs_holds_up_nobody_else() {
    requires_root!();
    let mut node = Node::start().await;
    let mut hanging = Hanging::at(&node.path("hang"));
    let mut runs = Vec::new();
    for number in 0..4 {
        let mut config = requests::sandbox(&node, &format!("bad{number}"));
        config.log_directory = node.path("hang/logs").display().to_string();
        let mut runtime = node.runtime.clone();
        let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        runs.push(tokio::spawn(async move { runtime.run_pod_sandbox(request).await }));
    }
    let pod = answered("another pod", node.pod("good")).await;
    let script = requests::script("c", "echo fine");
    let (status, text) = answered("a container", node.result_of(&pod, script)).await;
    assert_eq!((status.exit_code, text.as_str()), (0, "fine"));
    let version = node.runtime.version(v1::VersionRequest::default());
    answered("Version", version).await.unwrap();
    assert!(runs.iter().all(|run| !run.is_finished()));
    hanging.abort();
    for run in runs {
        assert!(answered("RunPodSandbox", run).await.unwrap().is_err());
    }
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left_but_mounts(&node, &["hang"]).await;
}
