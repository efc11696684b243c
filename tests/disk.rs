//! A disk that is full: the right answer, nothing half made, and everything works once there
//! is room again.

mod common;

use std::{fs, io::Write, path::Path};

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
    let before = log_texts(&log, "stdout").len();
    common::eventually("the log goes on", async || log_texts(&log, "stdout").len() > before).await;
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

/// ImageFsInfo: paths and bytes of images and of containers.
async fn filesystems(node: &mut Node) -> [(String, u64); 2] {
    let info = node.images.image_fs_info(v1::ImageFsInfoRequest {}).await.unwrap().into_inner();
    [info.image_filesystems, info.container_filesystems].map(|list| {
        assert_eq!(list.len(), 1, "{list:?}");
        let path = list[0].fs_id.as_ref().unwrap().mountpoint.clone();
        // What containers take is not known before the first measurement.
        (path, list[0].used_bytes.map_or(0, |bytes| bytes.value))
    })
}

async fn run_writer(node: &mut Node, name: &str) -> String {
    let pod = node.pod(name).await;
    let script = "dd if=/dev/zero of=/root/x bs=1024k count=3 2>/dev/null; echo written";
    let (status, text) = node.result_of(&pod, requests::script(name, script)).await;
    assert_eq!((status.exit_code, text.as_str()), (0, "written"));
    pod
}

#[tokio::test]
async fn what_containers_write_is_counted() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = run_writer(&mut node, "first").await;
    // The first answer starts the measurement.
    common::eventually("the container is measured", async || {
        filesystems(&mut node).await[1].1 >= 3 << 20
    })
    .await;
    let [images, containers] = filesystems(&mut node).await;
    assert_eq!(images.0, containers.0, "one disk has one path");
    let container = node.containers(v1::ContainerFilter::default()).await.remove(0);
    let request = v1::ContainerStatusRequest { container_id: container.id, verbose: true };
    let status = node.runtime.container_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&status.info["info"]).unwrap();
    assert!(info["writableLayer"]["usedBytes"].as_u64() >= Some(3 << 20), "{info}");
    assert!(images.1 > 1 << 20, "{images:?}");
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn images_may_lie_on_another_disk() {
    requires_root!();
    let images = tempfile::tempdir().unwrap();
    let disk = Disk(images.path().to_owned());
    mount("tmpfs", &disk.0, "tmpfs", MountFlags::empty(), Some(c"size=24m")).unwrap();
    let more = format!("warm_monitors = 0\n[image]\nroot = {:?}", disk.0);
    let mut node = Node::start_with(&more).await;
    let pod = run_writer(&mut node, "first").await;
    let [of_images, of_containers] = filesystems(&mut node).await;
    assert_eq!(of_images.0, disk.0.display().to_string());
    assert_eq!(of_containers.0, node.path("root").display().to_string());
    assert!(disk.0.join("layers").is_dir() && !node.path("root/images").exists());

    // A disk that is not there any more has no images; nothing else is lost.
    node.remove_pod(&pod).await.unwrap();
    node.kill_daemon();
    drop(disk);
    node.start_daemon().await;
    let list = node.images.list_images(v1::ListImagesRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().images, []);
    common::image::import(node.directory.path());
    let pod = run_writer(&mut node, "second").await;
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
