//! Limits of containers as they stand in the files of cgroups: set, changed, taken away, refused.
//! What only one version of cgroups has is tested where that one is.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Node, requests};
use criquet::cri::v1;
use tonic::{Code, Status};

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A file of a container's cgroup, by the names of both versions.
struct File(&'static str, &'static str, &'static str);

const MEMORY: File = File("memory.max", "memory", "memory.limit_in_bytes");
const QUOTA: File = File("cpu.max", "cpu", "cpu.cfs_quota_us");
const PERIOD: File = File("cpu.max", "cpu", "cpu.cfs_period_us");
const SHARES: File = File("cpu.weight", "cpu", "cpu.shares");
const CPUS: File = File("cpuset.cpus", "cpuset", "cpuset.cpus");
const MEMS: File = File("cpuset.mems", "cpuset", "cpuset.mems");

impl File {
    fn path(&self, cgroup: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        match is_v2() {
            true => root.join(cgroup).join(self.0),
            false => root.join(self.1).join(cgroup).join(self.2),
        }
    }

    fn read(&self, cgroup: &str) -> String {
        let path = self.path(cgroup);
        let text = fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }
}

fn cgroup(node: &Node, pod: &str, container: &str) -> String {
    format!("{}/{pod}/{container}", node.cgroup)
}

async fn update(
    node: &mut Node,
    id: &str,
    limits: v1::LinuxContainerResources,
) -> Result<(), Status> {
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(limits),
        ..Default::default()
    };
    node.runtime.update_container_resources(request).await.map(drop)
}

async fn in_force(node: &mut Node, id: &str) -> v1::LinuxContainerResources {
    node.status(id).await.unwrap().resources.unwrap().linux.unwrap()
}

#[tokio::test]
async fn limits_are_in_their_files_change_and_are_taken_away() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("limits").await;
    let mut config = requests::script("c", "sleep 1000");
    *requests::resources(&mut config) = v1::LinuxContainerResources {
        cpu_period: 50_000,
        cpu_quota: 25_000,
        cpu_shares: 512,
        cpuset_cpus: "0".to_owned(),
        cpuset_mems: "0".to_owned(),
        memory_limit_in_bytes: 64 << 20,
        memory_swap_limit_in_bytes: 96 << 20,
        ..Default::default()
    };
    let id = node.launch(&pod, config).await;
    let at = cgroup(&node, &pod, &id);
    let share = |quota: &str, period: &str| match is_v2() {
        true => [format!("{quota} {period}"), format!("{quota} {period}")],
        false => [if quota == "max" { "-1" } else { quota }.to_owned(), period.to_owned()],
    };
    assert_eq!(MEMORY.read(&at), (64 << 20).to_string());
    assert_eq!([QUOTA.read(&at), PERIOD.read(&at)], share("25000", "50000"));
    // 512 of 1024 shares, on the curve that goes through the weight of 100.
    assert_eq!(SHARES.read(&at), if is_v2() { "59" } else { "512" });
    assert_eq!([CPUS.read(&at), MEMS.read(&at)], ["0", "0"]);
    let swap = File("memory.swap.max", "memory", "memory.memsw.limit_in_bytes");
    if swap.path(&at).exists() {
        let limit: u64 = if is_v2() { 32 << 20 } else { 96 << 20 };
        assert_eq!(swap.read(&at), limit.to_string());
    }

    // In both directions, past what the files hold in between.
    for (quota, period) in [(500_000, 1_000_000), (1_000, 2_000), (40_000, 100_000)] {
        let limits = v1::LinuxContainerResources {
            cpu_quota: quota,
            cpu_period: period,
            ..Default::default()
        };
        update(&mut node, &id, limits).await.unwrap();
        let expected = share(&quota.to_string(), &period.to_string());
        assert_eq!([QUOTA.read(&at), PERIOD.read(&at)], expected);
    }
    let none = v1::LinuxContainerResources {
        cpu_quota: -1,
        memory_limit_in_bytes: -1,
        ..Default::default()
    };
    update(&mut node, &id, none).await.unwrap();
    assert_eq!([QUOTA.read(&at), PERIOD.read(&at)], share("max", "100000"));
    let memory = MEMORY.read(&at);
    assert!(memory == "max" || memory.parse::<u64>().unwrap() > 1 << 60, "{memory}");

    // What is in force is known to the next daemon as well.
    node.kill_daemon();
    node.start_daemon().await;
    let limits = in_force(&mut node, &id).await;
    assert_eq!((limits.cpu_quota, limits.cpu_period, limits.cpu_shares), (-1, 100_000, 512));
    assert_eq!((limits.memory_limit_in_bytes, limits.memory_swap_limit_in_bytes), (-1, 0));
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn a_limit_that_is_refused_leaves_all_others_and_says_why() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("refused").await;
    let mut config = requests::script("c", "sleep 1000");
    *requests::resources(&mut config) = v1::LinuxContainerResources {
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    };
    let id = node.launch(&pod, config).await;
    let at = cgroup(&node, &pod, &id);
    let before = [&MEMORY, &QUOTA, &CPUS].map(|file| file.read(&at));
    let wrong = v1::LinuxContainerResources {
        cpu_quota: 70_000,
        memory_limit_in_bytes: 128 << 20,
        cpuset_cpus: "9999".to_owned(),
        ..Default::default()
    };
    let error = update(&mut node, &id, wrong).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    for part in ["cpuset.cpus", "\"9999\"", "the kernel refuses"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert_eq!([&MEMORY, &QUOTA, &CPUS].map(|file| file.read(&at)), before);
    let limits = in_force(&mut node, &id).await;
    assert_eq!((limits.cpu_quota, limits.memory_limit_in_bytes), (50_000, 64 << 20));
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn a_memory_limit_below_what_is_used_is_refused_on_v1() {
    requires_root!();
    if is_v2() {
        // There the kernel takes it, gives back what it can, and kills for the rest.
        eprintln!("SKIPPED: this needs cgroup v1");
        return;
    }
    let mut node = Node::start().await;
    let pod = node.pod("below").await;
    // Without swap nothing of it can be given back.
    let script = "head -c 40000000 /dev/zero > /dev/shm/x && echo ready; sleep 1000";
    let mut config = requests::script("c", script);
    requests::resources(&mut config).memory_limit_in_bytes = 256 << 20;
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    common::eventually("it uses memory", async || common::log_texts(&log, "stdout") == ["ready"])
        .await;
    let less = v1::LinuxContainerResources { memory_limit_in_bytes: 8 << 20, ..Default::default() };
    let error = update(&mut node, &id, less).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    for part in ["memory.limit_in_bytes", "\"8388608\"", "more than that is in use"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert_eq!(MEMORY.read(&cgroup(&node, &pod, &id)), (256 << 20).to_string());
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn limits_of_a_container_that_has_ended_are_kept() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("ended").await;
    let id = node.launch(&pod, requests::script("c", "true")).await;
    node.end_of(&id).await;
    let limits = v1::LinuxContainerResources { cpu_shares: 700, ..Default::default() };
    update(&mut node, &id, limits).await.unwrap();
    assert_eq!(in_force(&mut node, &id).await.cpu_shares, 700);
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn unified_settings_are_set_changed_and_reset() {
    requires_root!();
    if !is_v2() {
        eprintln!("SKIPPED: this needs cgroup v2");
        return;
    }
    let mut node = Node::start().await;
    let pod = node.pod("unified").await;
    let unified = |pairs: &[(&str, &str)]| v1::LinuxContainerResources {
        unified: pairs.iter().map(|(file, value)| (file.to_string(), value.to_string())).collect(),
        ..Default::default()
    };
    let mut config = requests::script("c", "sleep 1000");
    *requests::resources(&mut config) = unified(&[
        ("memory.high", "33554432"),
        ("memory.min", "1048576"),
        ("memory.low", "2097152"),
        ("memory.oom.group", "1"),
        ("pids.max", "50"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
    ]);
    let id = node.launch(&pod, config).await;
    let at = cgroup(&node, &pod, &id);
    let read = |file: &str| {
        fs::read_to_string(Path::new("/sys/fs/cgroup").join(&at).join(file))
            .unwrap()
            .trim()
            .to_owned()
    };
    for (file, value) in [
        ("memory.high", "33554432"),
        ("memory.min", "1048576"),
        ("memory.low", "2097152"),
        ("memory.oom.group", "1"),
        ("pids.max", "50"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
    ] {
        assert_eq!(read(file), value, "{file}");
    }
    let changes = unified(&[("memory.high", "max"), ("memory.min", "0"), ("pids.max", "60")]);
    update(&mut node, &id, changes).await.unwrap();
    assert_eq!([read("memory.high"), read("memory.min"), read("pids.max")], ["max", "0", "60"]);
    assert_eq!(read("memory.low"), "2097152", "what is not named stays");

    let wrong = unified(&[("memory.high", "max"), ("memory.low", "much"), ("pids.max", "70")]);
    let error = update(&mut node, &id, wrong).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("memory.low"), "{error}");
    assert_eq!(read("pids.max"), "60");
    let absent = unified(&[("nothing.max", "1")]);
    let error = update(&mut node, &id, absent).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("nothing.max is missing"), "{error}");
    let limits = in_force(&mut node, &id).await;
    assert_eq!(limits.unified["pids.max"], "60");

    // All of it ends with one of it.
    let mut config = requests::script("group", "sleep 1000 & tail /dev/zero; echo survived; wait");
    *requests::resources(&mut config) = unified(&[("memory.oom.group", "1")]);
    requests::resources(&mut config).memory_limit_in_bytes = 20 << 20;
    let (status, text) = node.result_of(&pod, config).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{text}");
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn huge_pages_of_a_size_that_is_not_there_are_refused() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("huge").await;
    let huge = |limit: u64| {
        let mut config = requests::script(&format!("c{limit}"), "true");
        let size = "3MB".to_owned();
        requests::resources(&mut config).hugepage_limits =
            vec![v1::HugepageLimit { page_size: size, limit }];
        config
    };
    let id = node.create(&pod, huge(1 << 21)).await.unwrap();
    let error = node.start_container(&id).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("hugetlb.3MB"), "{error}");
    // None at all is what there is anyway.
    let (status, _) = node.result_of(&pod, huge(0)).await;
    assert_eq!(status.exit_code, 0);
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn each_of_many_sudden_ends_for_want_of_memory_is_told() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("sudden").await;
    let mut ids = Vec::new();
    for number in 0..30 {
        let mut config = requests::script(&format!("c{number}"), "");
        config.command = ["tail", "/dev/zero"].map(str::to_owned).into();
        requests::resources(&mut config).memory_limit_in_bytes = 12 << 20;
        ids.push(node.launch(&pod, config).await);
    }
    for id in ids {
        let status = node.end_of(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    }
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn the_limit_of_the_pod_counts_as_well() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("whole").await;
    let pod_sandbox_id = pod.clone();
    let resources =
        v1::LinuxContainerResources { memory_limit_in_bytes: 24 << 20, ..Default::default() };
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id,
        overhead: None,
        resources: Some(resources),
    };
    node.runtime.update_pod_sandbox_resources(request).await.unwrap();
    let mut config = requests::script("c", "");
    config.command = ["tail", "/dev/zero"].map(str::to_owned).into();
    let (status, _) = node.result_of(&pod, config).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    node.remove_pod(&pod).await.unwrap();
}

/// A whole disk of this machine, and its numbers.
fn disk() -> Option<(String, String)> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let path = format!("/dev/{name}");
        let number = fs::read_to_string(entry.path().join("dev")).ok()?.trim().to_owned();
        let is_disk = name.starts_with("vd") || name.starts_with("sd") || name.starts_with("nvme");
        (is_disk && Path::new(&path).exists()).then_some((path, number))
    })
}

#[tokio::test]
async fn a_class_of_block_io_limits_what_goes_to_a_disk() {
    requires_root!();
    let Some((path, number)) = disk() else {
        eprintln!("SKIPPED: there is no disk that can be named");
        return;
    };
    let mut node = Node::start().await;
    let classes = node.path("classes.yaml");
    let text = format!(
        "Classes:\n  slow:\n  - Devices: [{path}]\n    ThrottleReadBps: 60M\n    \
         ThrottleWriteIOPS: 100\n"
    );
    fs::write(&classes, text).unwrap();
    let mut config = requests::sandbox(&node, "unnamed");
    let key = "blockio.resources.beta.kubernetes.io/container.c".to_owned();
    config.annotations.insert(key, "slow".to_owned());
    let pod = node.run(config).await.unwrap();
    let error = node.create(&pod, requests::script("c", "true")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("containers.blockio_config_file"), "{error}");

    let file = node.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let line = format!("[containers]\nblockio_config_file = {classes:?}\n[cni]");
    fs::write(&file, text.replace("[cni]", &line)).unwrap();
    node.kill_daemon();
    node.start_daemon().await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let at = cgroup(&node, &pod, &id);
    let read = File("io.max", "blkio", "blkio.throttle.read_bps_device").read(&at);
    let write = File("io.max", "blkio", "blkio.throttle.write_iops_device").read(&at);
    if is_v2() {
        assert_eq!(read, format!("{number} rbps=60000000 wbps=max riops=max wiops=100"));
    } else {
        assert_eq!([read, write], [format!("{number} 60000000"), format!("{number} 100")]);
    }
    // Others are not limited by it.
    let other = node.launch(&pod, requests::script("d", "sleep 1000")).await;
    let read = File("io.max", "blkio", "blkio.throttle.read_bps_device");
    assert_eq!(read.read(&cgroup(&node, &pod, &other)), "");
    node.remove_pod(&pod).await.unwrap();
}
