//! The daemon can be killed at any moment: pods run on, and the next one knows everything.

mod common;

use std::{fs, time::Duration};

use common::{Node, eventually, image, leaks, log_texts, requests};
use criquet::cri::v1;

const TICKER: &str = "i=0; while :; do i=$((i+1)); echo $i; usleep 5000; done";

#[tokio::test]
async fn pods_run_on_without_a_daemon() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let ticker = requests::script("ticker", TICKER);
    let log = node.container_log(&ticker);
    let ticker = node.launch(&pod, ticker).await;
    let dies = node
        .launch(
            &pod,
            requests::script("dies", "while ! test -e /dev/shm/now; do usleep 5000; done; exit 42"),
        )
        .await;
    let waits = node.create(&pod, requests::script("waits", "sleep 1000")).await.unwrap();
    let before = node.status(&ticker).await.unwrap();
    node.output(&ticker, "(usleep 300000; touch /dev/shm/now) > /dev/null 2>&1 &").await;

    node.kill_daemon();
    let lines = log_texts(&log, "stdout").len();
    eventually("the log goes on", async || log_texts(&log, "stdout").len() > lines + 20).await;
    let record = node.path("state/pods").join(&pod).join(format!("{dies}.exit"));
    eventually("one container ends meanwhile", async || record.exists()).await;
    let ended_before = std::time::SystemTime::now();
    node.start_daemon().await;

    let status = node.status(&dies).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (42, "Error"));
    let ended_before = ended_before.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    assert!((status.finished_at as u128) < ended_before, "the time is that of the end");
    let after = node.status(&ticker).await.unwrap();
    assert_eq!((after.state, after.started_at), (before.state, before.started_at));
    assert_eq!(node.output(&ticker, "echo still here").await, "still here");
    node.start_container(&waits).await.unwrap();
    assert_eq!(node.output(&waits, "hostname").await, "pod");
    let numbers: Vec<u32> =
        log_texts(&log, "stdout").iter().map(|text| text.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "the log has no gap");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_daemon_killed_at_any_moment_leaves_no_half() {
    requires_root!();
    killed_at_any_moment(Node::start().await, 0).await;
}

#[tokio::test]
async fn nor_does_one_whose_pods_take_monitors_that_wait() {
    requires_root!();
    killed_at_any_moment(Node::start_with("warm_monitors = 1").await, 2).await;
}

async fn killed_at_any_moment(mut node: Node, waiting: usize) {
    for round in 0..15_u64 {
        let name = format!("pod-{round}");
        let config = requests::sandbox(&node, &name);
        let mut runtime = node.runtime.clone();
        let request =
            v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        let running = tokio::spawn(async move { runtime.run_pod_sandbox(request).await });
        // A different moment of the making each time.
        tokio::time::sleep(Duration::from_micros(700 * round)).await;
        node.kill_daemon();
        let _ = running.await.unwrap();
        node.start_daemon().await;
        // Whole or not there; and the name is not taken.
        let id = node.run(config).await.unwrap();
        assert_eq!(node.pods(v1::PodSandboxFilter::default()).await.len(), 1, "round {round}");
        let id_of_container = node.launch(&id, requests::script("c", "sleep 1000")).await;
        assert_eq!(node.output(&id_of_container, "hostname").await, name);
        node.remove_pod(&id).await.unwrap();
        leaks::assert_nothing_left(&node).await;
        eventually("no monitor is left but those that wait", async || {
            node.monitors().len() <= waiting
        })
        .await;
    }
}

#[tokio::test]
async fn a_daemon_killed_while_containers_come_and_go() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    for round in 0..12_u64 {
        let config = requests::script(&format!("c{round}"), "sleep 1000");
        let mut runtime = node.runtime.clone();
        let (pod_id, wanted) = (pod.clone(), config.clone());
        let work = tokio::spawn(async move {
            let request = v1::CreateContainerRequest {
                pod_sandbox_id: pod_id,
                config: Some(wanted),
                sandbox_config: None,
            };
            let id = runtime.create_container(request).await?.into_inner().container_id;
            let request = v1::StartContainerRequest { container_id: id.clone() };
            runtime.start_container(request).await?;
            let request = v1::RemoveContainerRequest { container_id: id };
            runtime.remove_container(request).await
        });
        tokio::time::sleep(Duration::from_millis(2 * round)).await;
        node.kill_daemon();
        let _ = work.await.unwrap();
        node.start_daemon().await;
        for container in node.containers(v1::ContainerFilter::default()).await {
            let status = node.status(&container.id).await.unwrap();
            assert_eq!(status.state, container.state);
            node.remove(&container.id).await.unwrap();
        }
        let (status, _) =
            node.result_of(&pod, requests::script(&format!("after{round}"), "true")).await;
        assert_eq!(status.exit_code, 0, "round {round}");
        node.remove(&status.id).await.unwrap();
    }
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn the_end_of_a_monitor_ends_its_pod_alone() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("victim").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let victim = node.monitors()[0];
    let other = node.pod("other").await;
    let bystander = node.launch(&other, requests::script("c", "sleep 1000")).await;
    let victim = rustix::process::Pid::from_raw(victim).unwrap();
    rustix::process::kill_process(victim, rustix::process::Signal::KILL).unwrap();
    let status = node.end_of(&container).await;
    assert_eq!(status.reason, "ContainerStatusUnknown");
    assert_eq!(node.output(&bystander, "echo fine").await, "fine");
    node.remove_pod(&pod).await.unwrap();
    node.remove_pod(&other).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn after_a_reboot_nothing_runs_and_all_can_be_removed() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    node.kill_daemon();
    // What a reboot does: processes, mounts, cgroups and the state directory are gone, and
    // the kernel has another boot id than the one on record.
    let config = fs::read(node.path("config.toml")).unwrap();
    leaks::end_everything(&node);
    fs::remove_dir_all(node.path("state")).unwrap();
    let _ = fs::remove_dir_all(node.path("netns"));
    let database = rusqlite::Connection::open(node.path("root/state.db")).unwrap();
    let changed = database
        .execute(
            "UPDATE records SET body = CAST(json_set(body, '$.boot_id', 'another') AS BLOB)
             WHERE collection = 'sandboxes'",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    drop(database);
    fs::write(node.path("config.toml"), config).unwrap();
    node.start_daemon().await;

    let status = node.pod_status(&pod).await.unwrap();
    assert_eq!(status.state, i32::from(v1::PodSandboxState::SandboxNotready));
    let status = node.status(&container).await.unwrap();
    assert_eq!(status.state, i32::from(v1::ContainerState::ContainerExited));
    assert_eq!(status.reason, "ContainerStatusUnknown");
    assert!(status.finished_at >= status.started_at);
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
    let again = node.pod("pod").await;
    node.launch(&again, requests::script("c", "sleep 1")).await;
}

#[tokio::test]
async fn a_second_daemon_on_the_same_root_says_so() {
    requires_root!();
    let node = Node::start().await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_criquet"))
        .args(["serve", "--config"])
        .arg(node.path("config.toml"))
        .arg("--listen")
        .arg(format!("unix://{}", node.path("other.sock").display()))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("another criquet uses"), "{error}");
}

#[tokio::test]
async fn an_image_in_use_stays_until_its_container_goes() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let spec = v1::ImageSpec { image: image::NAME.to_owned(), ..Default::default() };
    let id = node.status(&container).await.unwrap().image_id;
    node.images.remove_image(v1::RemoveImageRequest { image: Some(spec) }).await.unwrap();
    let images = node.images.list_images(v1::ListImagesRequest::default()).await.unwrap();
    assert!(images.into_inner().images.is_empty());
    assert_eq!(node.output(&container, "cat /etc/secret").await, "secret");
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.output(&container, "cat /etc/secret").await, "secret");
    assert_eq!(node.status(&container).await.unwrap().image_id, id);
    let layers = node.path("root/images/layers");
    assert_ne!(fs::read_dir(&layers).unwrap().count(), 0);
    node.remove_pod(&pod).await.unwrap();
    eventually("the layers go", async || {
        fs::read_dir(&layers).unwrap().flatten().all(|entry| !entry.path().is_dir())
    })
    .await;
}

/// Stops every process of a pod where it is, until it is told to go on.
fn freeze(cgroup: &str, pod: &str, on: bool) {
    let below = |root: &str| std::path::Path::new(root).join(cgroup).join(pod);
    let v1 = below("/sys/fs/cgroup/freezer").join("freezer.state");
    if v1.exists() {
        return fs::write(v1, if on { "FROZEN" } else { "THAWED" }).unwrap();
    }
    let v2 = below("/sys/fs/cgroup").join("cgroup.freeze");
    fs::write(v2, if on { "1" } else { "0" }).unwrap();
}

#[tokio::test]
async fn a_start_goes_on_without_a_daemon() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let first = node.launch(&pod, requests::script("first", "sleep 1000")).await;
    let id = node.create(&pod, requests::script("c", "sleep 1000")).await.unwrap();
    freeze(&node.cgroup, &pod, true);
    let mut runtime = node.runtime.clone();
    let request = v1::StartContainerRequest { container_id: id.clone() };
    let start = tokio::spawn(async move { runtime.start_container(request).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!start.is_finished());
    node.kill_daemon();
    assert!(start.await.unwrap().is_err());
    let (cgroup, of_pod) = (node.cgroup.clone(), pod.clone());
    let thaw = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        freeze(&cgroup, &of_pod, false);
    });
    node.start_daemon().await;
    thaw.join().unwrap();
    let running = i32::from(v1::ContainerState::ContainerRunning);
    for id in [&id, &first] {
        assert_eq!(node.status(id).await.unwrap().state, running);
        assert_eq!(node.output(id, "echo here").await, "here");
    }
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_start_that_does_not_end_can_be_stopped() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let first = node.launch(&pod, requests::script("first", "sleep 1000")).await;
    let id = node.create(&pod, requests::script("c", "sleep 1000")).await.unwrap();
    freeze(&node.cgroup, &pod, true);
    let error = node.exec(&first, "true", 1).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
    let mut runtime = node.runtime.clone();
    let request = v1::StartContainerRequest { container_id: id.clone() };
    let start = tokio::spawn(async move { runtime.start_container(request).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut runtime = node.runtime.clone();
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
    // What is frozen is thawed to end.
    runtime.stop_pod_sandbox(request).await.unwrap();
    // Killed on its way, or just behind it: the end of the other has thawed both.
    let _ = start.await.unwrap();
    let exited = i32::from(v1::ContainerState::ContainerExited);
    assert_eq!(node.status(&id).await.unwrap().state, exited);
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_connection_that_breaks_ends_nothing() {
    use rustix::{net, process};
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let before = node.status(&id).await.unwrap();
    let daemon = process::Pid::from_raw(node.daemon_pid() as i32).unwrap();
    let daemon = process::pidfd_open(daemon, process::PidfdFlags::empty()).unwrap();
    let mut broken = 0;
    for number in 0..100 {
        let flags = process::PidfdGetfdFlags::empty();
        let Ok(socket) = process::pidfd_getfd(&daemon, number, flags) else { continue };
        // Only connections to monitors keep the borders of messages.
        if net::sockopt::socket_type(&socket) == Ok(net::SocketType::SEQPACKET) {
            net::shutdown(&socket, net::Shutdown::Both).unwrap();
            broken += 1;
        }
    }
    assert_eq!(broken, 1);
    eventually("it is connected anew", async || node.exec(&id, "true", 5).await.is_ok()).await;
    let after = node.status(&id).await.unwrap();
    assert_eq!((after.state, after.started_at), (before.state, before.started_at));
    node.stop(&id, 0).await.unwrap();
    assert_eq!(node.status(&id).await.unwrap().exit_code, 137);
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn commands_end_in_time_without_a_daemon() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("probes").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let mut runtime = node.runtime.clone();
    let request = v1::ExecSyncRequest {
        container_id: container.clone(),
        cmd: ["sh", "-c", "touch /dev/shm/begun; sleep 3003"].map(str::to_owned).into(),
        timeout: 2,
    };
    let probe = tokio::spawn(async move { runtime.exec_sync(request).await });
    let begun = "test -e /dev/shm/begun && echo begun || true";
    eventually("it runs", async || node.output(&container, begun).await == "begun").await;
    node.kill_daemon();
    assert!(probe.await.unwrap().is_err());
    node.start_daemon().await;
    let left = "ps | grep -c '[s]leep 3003' || true";
    eventually("it ends", async || node.output(&container, left).await == "0").await;
    assert!(node.status(&container).await.unwrap().finished_at == 0);
}

#[tokio::test]
async fn a_profile_of_the_node_counts_as_it_was_when_the_container_was_created() {
    requires_root!();
    let mut node = Node::start().await;
    let profile = node.path("profile.json");
    let rule = r#"{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 17}"#;
    let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
    fs::write(&profile, json).unwrap();
    let pod = node.pod("pod").await;
    let mut config = requests::script("c", "mkdir /dev/shm/a; echo $?; exec sleep 1000");
    let log = node.container_log(&config);
    requests::security(&mut config).seccomp = Some(v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::Localhost.into(),
        localhost_ref: profile.display().to_string(),
    });
    let container = node.create(&pod, config).await.unwrap();
    // Whatever becomes of the profile, also while no daemon runs.
    fs::remove_file(&profile).unwrap();
    node.kill_daemon();
    node.start_daemon().await;
    node.start_container(&container).await.unwrap();
    eventually("it was refused", async || log_texts(&log, "stdout") == ["1"]).await;
    node.kill_daemon();
    node.start_daemon().await;
    let refused = "mkdir /dev/shm/a 2> /dev/null; echo $?; grep Seccomp: /proc/self/status";
    assert_eq!(node.output(&container, refused).await, "1\nSeccomp:\t2");
    node.remove_pod(&pod).await.unwrap();
    assert_eq!(fs::read_dir(node.path("state/bundles")).unwrap().count(), 0);
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_stop_right_after_a_restart_gives_the_grace_that_was_asked_for() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let script = "trap 'usleep 300000; exit 7' TERM; echo ready; while :; do usleep 10000; done";
    let mut containers = Vec::new();
    for number in 0..4 {
        let config = requests::script(&format!("c{number}"), script);
        let log = node.container_log(&config);
        containers.push(node.launch(&pod, config).await);
        eventually("it can be told", async || log_texts(&log, "stdout") == ["ready"]).await;
    }
    node.kill_daemon();
    node.start_daemon().await;
    for container in &containers {
        node.stop(container, 60).await.unwrap();
        assert_eq!(node.status(container).await.unwrap().exit_code, 7);
    }
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
