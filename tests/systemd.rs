//! Pods as scopes of systemd, where systemd runs the machine (`make test-vm`).

mod common;

use std::{fs, path::PathBuf, process::Command};

use common::{Node, eventually, requests};
use criquet::cri::v1;
use tonic::Code;

/// Held by each test: some of them let systemd, or the bus, start anew.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const DRIVER: &str = "warm_monitors = 0\ncgroup_driver = \"systemd\"";

/// Whether systemd runs this machine with cgroup v2; says so where it does not.
fn is_missing() -> bool {
    let name = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let unified = fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok();
    let missing = name.trim() != "systemd" || !unified;
    if missing {
        eprintln!("SKIPPED: this needs systemd as the first process, and cgroup v2");
    }
    missing
}

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    assert!(output.status.success(), "systemctl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A property of a unit.
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

fn scope(pod: &str) -> String {
    format!("criquet-{pod}.scope")
}

/// Whether systemd knows the unit no more, not even as one that has failed.
fn is_unknown(unit: &str) -> bool {
    systemctl(&["list-units", "--all", "--no-legend", "--plain", unit]).trim().is_empty()
}

fn at(cgroup: &str, file: &str) -> PathBuf {
    PathBuf::from(format!("/sys/fs/cgroup{cgroup}")).join(file)
}

fn read(cgroup: &str, file: &str) -> String {
    fs::read_to_string(at(cgroup, file)).unwrap().trim().to_owned()
}

/// A sandbox in a slice such as the kubelet has for its pods, and the path of that.
fn in_slice(node: &Node, name: &str) -> (v1::PodSandboxConfig, String) {
    let top = node.cgroup.replace('-', "_");
    let slice = format!("{top}-burstable-pod{name}.slice");
    let mut config = requests::sandbox(node, name);
    config.linux.get_or_insert_default().cgroup_parent = slice.clone();
    (config, format!("/{top}.slice/{top}-burstable.slice/{slice}"))
}

#[tokio::test]
async fn a_pod_is_a_scope_in_the_slice_that_it_names() {
    requires_root!();
    if is_missing() {
        return;
    }
    let _turn = TURN.lock().await;
    let mut node = Node::start_with(DRIVER).await;
    let answer = node.runtime.runtime_config(v1::RuntimeConfigRequest::default()).await.unwrap();
    let linux = answer.into_inner().linux.unwrap();
    assert_eq!(linux.cgroup_driver, i32::from(v1::CgroupDriver::Systemd));

    let (config, slice) = in_slice(&node, "one");
    let pod = node.run(config).await.unwrap();
    let unit = scope(&pod);
    let cgroup = format!("{slice}/{unit}");
    for (name, value) in [
        ("ActiveState", "active"),
        ("Delegate", "yes"),
        ("CollectMode", "inactive-or-failed"),
        ("TasksMax", "infinity"),
        ("ControlGroup", &cgroup),
        ("Description", "Kubernetes pod tests/one"),
    ] {
        assert_eq!(property(&unit, name), value, "{name}");
    }
    let monitor = node.monitor_of(&pod).as_raw_nonzero().to_string();
    assert_eq!(read(&cgroup, "monitor/cgroup.procs"), monitor);
    assert_eq!(read(&cgroup, "cgroup.procs"), "");

    let mut config = requests::script("c", "cat /proc/self/cgroup; sleep 1000");
    requests::resources(&mut config).memory_limit_in_bytes = 64 << 20;
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    assert_eq!(read(&cgroup, &format!("{id}/memory.max")), (64 << 20).to_string());
    eventually("its cgroup is its root", async || common::log_texts(&log, "stdout") == ["0::/"])
        .await;
    // No unit for a container, and its processes are told by the pod's.
    assert_eq!(node.output(&id, "echo exec").await.trim(), "exec");
    let stats = v1::PodSandboxStatsRequest { pod_sandbox_id: pod.clone() };
    eventually("the pod's figures are those of its slice", async || {
        let stats = node.runtime.pod_sandbox_stats(stats.clone()).await.unwrap().into_inner();
        let memory = stats.stats.and_then(|s| s.linux).and_then(|l| l.memory);
        memory.and_then(|m| m.working_set_bytes).is_some_and(|bytes| bytes.value > 0)
    })
    .await;

    node.stop_pod(&pod).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    assert!(is_unknown(&unit), "{}", systemctl(&["status", &unit]));
    assert!(!at(&cgroup, "").exists());
}

#[tokio::test]
async fn a_pod_that_names_no_slice_gets_one_and_its_limits_outlast_a_reload() {
    requires_root!();
    if is_missing() {
        return;
    }
    let _turn = TURN.lock().await;
    let mut node = Node::start_with(DRIVER).await;
    let pod = node.pod("own").await;
    let unit = scope(&pod);
    let slice = format!("{}.slice", node.cgroup.replace('-', "_"));
    let cgroup = format!("/{slice}/{unit}");
    assert_eq!(property(&unit, "ControlGroup"), cgroup);
    let mut config = requests::script("c", "sleep 1000");
    let limits = requests::resources(&mut config);
    limits.memory_limit_in_bytes = 64 << 20;
    limits.cpu_shares = 512;
    limits.cpu_quota = 50_000;
    limits.cpu_period = 100_000;
    let id = node.launch(&pod, config).await;
    let resources = v1::LinuxContainerResources {
        memory_limit_in_bytes: 128 << 20,
        cpu_shares: 2048,
        cpu_quota: 150_000,
        cpu_period: 100_000,
        ..Default::default()
    };
    let update = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.clone(),
        overhead: None,
        resources: Some(resources),
    };
    node.runtime.update_pod_sandbox_resources(update).await.unwrap();
    let files = ["memory.max", "cpu.max", "cpu.weight", "pids.max", "cgroup.subtree_control"];
    let all = || {
        let of = |cgroup: String| files.map(|file| format!("{file} {}", read(&cgroup, file)));
        (of(cgroup.clone()), of(format!("{cgroup}/{id}")))
    };
    let before = all();
    assert_eq!(before.0[0], format!("memory.max {}", 128 << 20));
    assert_eq!(before.0[1], "cpu.max 150000 100000");
    assert_eq!(property(&unit, "MemoryMax"), (128 << 20).to_string());
    for command in ["daemon-reload", "daemon-reexec"] {
        systemctl(&[command]);
        // Another unit in the same slice makes systemd look at its cgroups again.
        let other = node.pod(command).await;
        assert_eq!(all(), before, "after {command}");
        node.remove_pod(&other).await.unwrap();
    }
    assert_eq!(node.output(&id, "echo exec").await.trim(), "exec");
    node.remove_pod(&pod).await.unwrap();
    assert!(is_unknown(&unit));
}

#[tokio::test]
async fn a_container_that_runs_out_of_memory_ends_alone() {
    requires_root!();
    if is_missing() {
        return;
    }
    let _turn = TURN.lock().await;
    let mut node = Node::start_with(DRIVER).await;
    let (config, _) = in_slice(&node, "oom");
    let pod = node.run(config).await.unwrap();
    let other = node.launch(&pod, requests::script("other", "sleep 1000")).await;
    let mut config = requests::script("c", "x=a; while :; do x=$x$x; done");
    requests::resources(&mut config).memory_limit_in_bytes = 16 << 20;
    let (status, _) = node.result_of(&pod, config).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    assert_eq!(property(&scope(&pod), "ActiveState"), "active");
    assert_eq!(node.output(&other, "echo lives").await.trim(), "lives");
    node.remove_pod(&pod).await.unwrap();
    assert!(is_unknown(&scope(&pod)));
}

#[tokio::test]
async fn containers_that_share_their_processes_lie_in_the_scope_as_well() {
    requires_root!();
    if is_missing() {
        return;
    }
    let _turn = TURN.lock().await;
    let mut node = Node::start_with(DRIVER).await;
    let (mut config, slice) = in_slice(&node, "shared");
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(v1::NamespaceOption::default());
    let pod = node.run(config).await.unwrap();
    let cgroup = format!("{slice}/{}", scope(&pod));
    assert_ne!(read(&cgroup, "init/cgroup.procs"), "");
    let mut config = requests::script("c", "sleep 1000");
    requests::security(&mut config).namespace_options = Some(v1::NamespaceOption::default());
    node.launch(&pod, config).await;
    node.remove_pod(&pod).await.unwrap();
    assert!(is_unknown(&scope(&pod)));
}

#[tokio::test]
async fn a_frozen_slice_can_be_stopped() {
    requires_root!();
    if is_missing() {
        return;
    }
    let _turn = TURN.lock().await;
    let mut node = Node::start_with(DRIVER).await;
    let (config, slice) = in_slice(&node, "frozen");
    let pod = node.run(config).await.unwrap();
    node.launch(&pod, requests::script("c", "sleep 1000")).await;
    fs::write(at(&slice, "cgroup.freeze"), "1").unwrap();
    node.stop_pod(&pod).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    fs::write(at(&slice, "cgroup.freeze"), "0").unwrap();
    assert!(is_unknown(&scope(&pod)));
}

#[tokio::test]
async fn parents_of_the_other_driver_are_refused_with_what_to_change() {
    requires_root!();
    if is_missing() {
        return;
    }
    let _turn = TURN.lock().await;
    let mut node = Node::start_with(DRIVER).await;
    for (parent, words) in
        [("/kubepods/pod1", "cgroupDriver: systemd"), ("a--b.slice", "not the name of a slice")]
    {
        let mut config = requests::sandbox(&node, "p");
        config.linux.get_or_insert_default().cgroup_parent = parent.to_owned();
        let error = node.run(config).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_daemon_that_dies_leaves_no_unit_and_finds_its_pods() {
    requires_root!();
    if is_missing() {
        return;
    }
    let _turn = TURN.lock().await;
    let mut node = Node::start_with(DRIVER).await;
    let pod = node.pod("stays").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    // At each moment of a pod that is being made, until one is whole.
    for number in 1.. {
        node.kill_daemon();
        node.start_daemon_with("CRIQUET_CRASH_AT", &number.to_string()).await;
        let made = match node.has_ended() {
            true => Err(()),
            false => {
                let config = requests::sandbox(&node, &format!("dies-{number}"));
                node.run(config).await.map_err(drop)
            }
        };
        if node.has_died().await {
            node.start_daemon().await;
            continue;
        }
        made.unwrap();
        break;
    }
    assert_eq!(node.output(&id, "echo lives").await.trim(), "lives");
    let slice = node.cgroup.replace('-', "_");
    let mine = |unit: &str| property(unit, "ControlGroup").contains(&slice);
    let pods = node.pods(v1::PodSandboxFilter::default()).await;
    let units: Vec<_> = pods.iter().map(|pod| scope(&pod.id)).collect();
    assert!(units.contains(&scope(&pod)));
    eventually("only scopes of pods are left", async || {
        let listed =
            systemctl(&["list-units", "--all", "--no-legend", "--plain", "criquet-*.scope"]);
        let left = listed.lines().filter_map(|line| line.split_whitespace().next());
        left.filter(|unit| mine(unit)).all(|unit| units.iter().any(|known| known == unit))
    })
    .await;
    // With the other driver they are what they were.
    let config = fs::read_to_string(node.path("config.toml")).unwrap();
    let config = config.replace("cgroup_driver = \"systemd\"", "cgroup_driver = \"cgroupfs\"");
    fs::write(node.path("config.toml"), config).unwrap();
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.output(&id, "echo lives").await.trim(), "lives");
    node.remove_pod(&pod).await.unwrap();
    assert!(is_unknown(&scope(&pod)));
}

#[tokio::test]
async fn a_bus_that_starts_anew_and_a_slow_systemd_are_waited_for() {
    requires_root!();
    if is_missing() {
        return;
    }
    let _turn = TURN.lock().await;
    let mut node = Node::start_with(DRIVER).await;
    let first = node.pod("first").await;
    systemctl(&["restart", "dbus.service"]);
    let second = node.pod("second").await;
    // The manager answers nobody while its generators run. Those in /run need not be executable.
    let generators = PathBuf::from("/etc/systemd/system-generators");
    fs::create_dir_all(&generators).unwrap();
    let slow = generators.join("criquet-test-slow");
    fs::write(&slow, "#!/bin/sh\nsleep 10\n").unwrap();
    Command::new("chmod").arg("755").arg(&slow).status().unwrap();
    let mut reload = Command::new("systemctl").arg("daemon-reload").spawn().unwrap();
    eventually("the manager is busy", async || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
            .any(|name| name.trim() == "criquet-test-sl")
    })
    .await;
    let third = node.pod("third").await;
    fs::remove_file(&slow).unwrap();
    reload.wait().unwrap();
    for pod in [first, second, third] {
        assert_eq!(property(&scope(&pod), "ActiveState"), "active");
        node.remove_pod(&pod).await.unwrap();
        eventually("its scope is gone", async || is_unknown(&scope(&pod))).await;
    }
}
