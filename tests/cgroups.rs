//! Cgroups in whose ways others are: those who freeze or remove them, parents that hand nothing
//! down, and containers that manage cgroups themselves.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Node, requests};
use criquet::cri::v1;
use tonic::Code;

const ROOT: &str = "/sys/fs/cgroup";

/// Whether this machine has cgroup v1; says so where it does.
fn is_v1() -> bool {
    let is_v1 = !Path::new(ROOT).join("cgroup.controllers").exists();
    if is_v1 {
        eprintln!("SKIPPED: this needs cgroup v2");
    }
    is_v1
}

/// The directories of a container's cgroup.
fn directories(node: &Node, pod: &str, container: &str) -> Vec<PathBuf> {
    let path = format!("{}/{pod}/{container}", node.cgroup);
    let root = Path::new(ROOT);
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path().join(&path));
    hierarchies.chain([root.join(&path)]).filter(|path| path.is_dir()).collect()
}

#[tokio::test]
async fn a_cgroup_that_somebody_has_removed_is_not_missed() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("removed").await;
    let id = node.launch(&pod, requests::script("c", "true")).await;
    node.end_of(&id).await;
    for directory in directories(&node, &pod, &id) {
        // A hierarchy can be reached by two names.
        let _ = fs::remove_dir(&directory);
        assert!(!directory.exists(), "{}", directory.display());
    }
    node.stop(&id, 0).await.unwrap();
    node.remove(&id).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    common::leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_cpuset_has_its_processors_when_it_is_made() {
    requires_root!();
    if !Path::new(ROOT).join("cpuset/cpuset.cpus").exists() {
        eprintln!("SKIPPED: this needs the cpuset hierarchy of cgroup v1");
        return;
    }
    let mut node = Node::start().await;
    let pod = node.pod("cpuset").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let parent = Path::new(ROOT).join("cpuset").join(&node.cgroup).join(&pod);
    let read = |path: PathBuf| fs::read_to_string(path).unwrap().trim().to_owned();
    assert_eq!(read(parent.join("cgroup.clone_children")), "1", "nobody has to write them");
    let container = parent.join(&id);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        assert_eq!(read(container.join(file)), read(parent.join(file)), "{file}");
    }
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn a_container_that_somebody_has_frozen_can_be_stopped() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("frozen").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    for directory in directories(&node, &pod, &id) {
        for (file, value) in [("cgroup.freeze", "1"), ("freezer.state", "FROZEN")] {
            if directory.join(file).exists() {
                fs::write(directory.join(file), value).unwrap();
            }
        }
    }
    node.stop(&id, 1).await.unwrap();
    assert_eq!(node.end_of(&id).await.exit_code, 137);
    node.remove_pod(&pod).await.unwrap();
}

/// A parent of a pod, as a kubelet makes it.
struct Parent(PathBuf);

impl Parent {
    fn make(node: &Node, name: &str) -> (Self, String) {
        let path = format!("/{}/{name}", node.cgroup);
        let directory = PathBuf::from(format!("{ROOT}{path}"));
        fs::create_dir_all(&directory).unwrap();
        (Self(directory), path)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn controllers_that_the_parent_keeps_are_handed_down() {
    requires_root!();
    if is_v1() {
        return;
    }
    let mut node = Node::start().await;
    let (parent, path) = Parent::make(&node, "keeps");
    assert_eq!(fs::read_to_string(parent.0.join("cgroup.subtree_control")).unwrap().trim(), "");
    let mut config = requests::sandbox(&node, "keeps");
    config.linux.get_or_insert_default().cgroup_parent = path;
    let pod = node.run(config).await.unwrap();
    let limited = |name: &str| {
        let mut config = requests::script(name, "sleep 1000");
        requests::resources(&mut config).memory_limit_in_bytes = 32 << 20;
        config
    };
    let id = node.launch(&pod, limited("c")).await;
    let limit = fs::read_to_string(parent.0.join(&id).join("memory.max")).unwrap();
    assert_eq!(limit.trim(), (32 << 20).to_string());
    node.remove_pod(&pod).await.unwrap();

    // Where a process is in the way, the limit that cannot be had is told.
    let (parent, path) = Parent::make(&node, "busy");
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(parent.0.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let mut config = requests::sandbox(&node, "busy");
    config.linux.get_or_insert_default().cgroup_parent = path;
    let pod = node.run(config).await.unwrap();
    let id = node.create(&pod, limited("d")).await.unwrap();
    let error = node.start_container(&id).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    for part in ["memory.max is missing", "processes of its own"] {
        assert!(error.message().contains(part), "{error}");
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    node.launch(&pod, limited("e")).await;
    node.remove_pod(&pod).await.unwrap();
}

/// A node whose pods may manage their cgroups, and such a pod.
async fn manager() -> (Node, String) {
    let allow = "[containers]\nallowed_annotations = [\"io.criquet.writable-cgroups\"]";
    let mut node = Node::start_with(allow).await;
    let mut config = requests::sandbox(&node, "manager");
    config.annotations.insert("io.criquet.writable-cgroups".to_owned(), "true".to_owned());
    let pod = node.run(config).await.unwrap();
    (node, pod)
}

#[tokio::test]
async fn a_container_can_manage_its_processes_as_systemd_does() {
    requires_root!();
    if is_v1() {
        return;
    }
    let (mut node, pod) = manager().await;
    let script = "cd /sys/fs/cgroup && mkdir init.scope system.slice && \
        echo 1 > init.scope/cgroup.procs && echo '+memory +pids' > cgroup.subtree_control && \
        echo 10 > system.slice/pids.max && cat /proc/self/cgroup && echo ready; sleep 1000";
    let config = requests::script("c", script);
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    common::eventually("it has its cgroups", async || {
        common::log_texts(&log, "stdout") == ["0::/init.scope", "ready"]
    })
    .await;
    assert_eq!(node.output(&id, "cat /sys/fs/cgroup/system.slice/pids.max").await.trim(), "10");
    let memory =
        v1::LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(memory),
        ..Default::default()
    };
    node.runtime.update_container_resources(request).await.unwrap();
    node.stop(&id, 0).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    common::leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn commands_run_and_end_in_a_container_with_threaded_cgroups() {
    requires_root!();
    if is_v1() {
        return;
    }
    let (mut node, pod) = manager().await;
    let script = "mkdir /sys/fs/cgroup/t && echo threaded > /sys/fs/cgroup/t/cgroup.type && \
        cat /sys/fs/cgroup/cgroup.type; sleep 1000";
    let config = requests::script("c", script);
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    common::eventually("it has threaded cgroups", async || {
        common::log_texts(&log, "stdout") == ["domain threaded"]
    })
    .await;
    assert_eq!(node.output(&id, "echo runs").await.trim(), "runs");
    // Its time over, all of it ends.
    let request = v1::ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "sleep 1234 & sleep 1234"].map(str::to_owned).into(),
        timeout: 1,
    };
    let error = node.runtime.exec_sync(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    common::eventually("nothing is left of it", async || {
        !node.output(&id, "ps").await.contains("sleep 1234")
    })
    .await;
    node.remove_pod(&pod).await.unwrap();
    common::leaks::assert_nothing_left(&node).await;
}
