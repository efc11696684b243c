//! A disk that is full: the right answer, nothing half made, and everything works once there
//! is room again.

mod common;

use std::{fs, io::Write, path::Path, time::Duration};

use common::{Node, leaks, log_texts, requests};
use criquet::cri::v1;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tonic::Code;

/// A small file system with the daemon's root on it.
struct Disk(std::path::PathBuf);

impl Disk {
    /// Moves the root of a node onto it, while no daemon runs.
    fn below(node: &Node) -> Self {
        let (root, aside) = (node.path("root"), node.path("root.old"));
        fs::rename(&root, &aside).unwrap();
        fs::create_dir(&root).unwrap();
        mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(c"size=24m")).unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", aside.display()))
            .arg(&root)
            .status();
        assert!(copied.unwrap().success());
        fs::remove_dir_all(aside).unwrap();
        Self(root)
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("fill")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    requires_root!();
    let mut node = Node::start().await;
    node.kill_daemon();
    let disk = Disk::below(&node);
    node.start_daemon().await;
    let pod = node.pod("full").await;
    let runs = node.launch(&pod, requests::script("runs", "sleep 1000")).await;
    let writes = requests::script("writes", "while :; do echo 0123456789; usleep 1000; done");
    let log = node.container_log(&writes);
    let writes = node.launch(&pod, writes).await;
    let waits = node.create(&pod, requests::script("waits", "exit 3")).await.unwrap();

    disk.fill();
    for attempt in 0..20 {
        let name = format!("no-{attempt}");
        let error = node.create(&pod, requests::script(&name, "true")).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
        assert!(
            error.message().contains("No space left") || error.message().contains("full"),
            "{error}"
        );
    }
    assert_eq!(node.containers(v1::ContainerFilter::default()).await.len(), 3);
    assert_eq!(entries(&node.path("root/containers")), 3);
    // A start needs room for the work directory of its file system.
    match node.start_container(&waits).await {
        Ok(()) => assert_eq!(node.end_of(&waits).await.exit_code, 3),
        Err(error) => assert_eq!(error.code(), Code::ResourceExhausted, "{error}"),
    }
    let error = node.run(requests::sandbox(&node, "more")).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    // What runs goes on, and its end is known.
    assert_eq!(node.output(&runs, "echo here").await, "here");
    node.stop(&runs, 0).await.unwrap();
    assert_eq!(node.status(&runs).await.unwrap().exit_code, 137);

    // Removing makes room, also when nobody else does.
    let _ = node.remove(&runs).await;
    disk.make_room();
    node.remove(&runs).await.unwrap();
    let (status, text) = node.result_of(&pod, requests::script("after", "echo fine")).await;
    assert_eq!((status.exit_code, text.as_str()), (0, "fine"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(log_texts(&log, "stdout").iter().all(|line| line == "0123456789"));
    node.stop(&writes, 0).await.unwrap();

    // A daemon that could not store an end hears of it from the monitor.
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.status(&writes).await.unwrap().exit_code, 137);
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left_but_mounts(&node, &["root"]).await;
    node.kill_daemon();
}
