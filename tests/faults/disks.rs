//! Disks that are full, read-only, or take no writes for a while.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use criquet::cri::v1;

use crate::common::{Node, answered, eventually, image, leaks, requests};

/// What a disk has too little of.
#[derive(Clone, Copy, PartialEq)]
enum Lack {
    Bytes,
    Inodes,
}

/// A file system with the daemon's root or state on it.
pub(super) struct Disk {
    path: PathBuf,
    lack: Lack,
}

impl Disk {
    /// Moves the root of a node onto an ext4 in a file, while no daemon runs.
    pub(super) fn below(node: &mut Node) -> Self {
        Self::lacking(node, Lack::Bytes)
    }

    fn lacking(node: &mut Node, lack: Lack) -> Self {
        node.kill_daemon();
        let file = node.path("disk");
        fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        let inodes = if lack == Lack::Inodes { "4096" } else { "32768" };
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-N", inodes]).arg(&file));
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,errors=remount-ro"]).arg(&file);
        Self::take_over(node, "root", &mut mount, lack)
    }

    /// The same with project quotas; the reason where the machine's kernel has none.
    pub(super) fn with_quotas(node: &mut Node) -> Result<Self, String> {
        let (file, place) = (node.path("disk"), node.path("try"));
        fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        super::quotas::format(&file);
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,prjquota"]).arg(&file);
        fs::create_dir(&place).unwrap();
        let tried =
            Command::new("mount").args(["-o", "loop,prjquota"]).arg(&file).arg(&place).output();
        let tried = tried.unwrap();
        if !tried.status.success() {
            return Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
        }
        run(Command::new("umount").arg(&place));
        node.kill_daemon();
        Ok(Self::take_over(node, "root", &mut mount, Lack::Bytes))
    }

    /// Moves the state directory onto a tmpfs of 8 MiB, as `/run` is one.
    fn run(node: &mut Node) -> Self {
        node.kill_daemon();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "criquet-test"]);
        Self::take_over(node, "state", &mut mount, Lack::Bytes)
    }

    fn take_over(node: &Node, name: &str, mount: &mut Command, lack: Lack) -> Self {
        let (path, aside) = (node.path(name), node.path("aside"));
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        run(mount.arg(&path));
        run(Command::new("cp").arg("-a").arg(format!("{}/.", aside.display())).arg(&path));
        fs::remove_dir_all(aside).unwrap();
        Self { path, lack }
    }

    /// To the last byte, or the last inode.
    pub(super) fn fill(&self) {
        let path = self.path.join("fill");
        fs::create_dir_all(&path).unwrap_or_default();
        if self.lack == Lack::Inodes {
            while tempfile::NamedTempFile::new_in(&path).and_then(|file| Ok(file.keep()?)).is_ok() {
            }
            return;
        }
        let mut file = fs::File::options().create(true).append(true).open(path.join("up")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Takes away what filled it.
    pub(super) fn empty(&self) {
        fs::remove_dir_all(self.path.join("fill")).unwrap();
    }

    fn has_room(&self) -> bool {
        let disk = rustix::fs::statvfs(&self.path).unwrap();
        disk.f_bavail > 0 && disk.f_favail > 0
    }

    /// As after an error of the disk, after which it takes no more writes (`errors` of ext4(5)).
    fn fail(&self) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.contains(self.path.to_str().unwrap())).unwrap();
        let device = mount.split(' ').next().unwrap().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    }

    pub(super) fn freeze(&self, on: bool) {
        run(Command::new("fsfreeze").arg(if on { "-f" } else { "-u" }).arg(&self.path));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.path).output();
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn rows(root: &Path) -> i64 {
    let database = rusqlite::Connection::open(root.join("state.db")).unwrap();
    let query = "SELECT count(*) FROM records WHERE collection IN ('sandboxes', 'containers')";
    database.query_row(query, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_disk_without_room_can_be_emptied() {
    requires_root!();
    what_is_full_can_be_emptied(Lack::Bytes).await;
}

#[tokio::test]
async fn a_disk_without_inodes_can_be_emptied() {
    requires_root!();
    what_is_full_can_be_emptied(Lack::Inodes).await;
}

async fn what_is_full_can_be_emptied(lack: Lack) {
    let mut node = Node::start().await;
    let disk = Disk::lacking(&mut node, lack);
    node.start_daemon().await;
    let mut pods = Vec::new();
    for number in 0..3 {
        let pod = node.pod(&format!("p{number}")).await;
        pods.push((node.launch(&pod, requests::script("c", "sleep 1000")).await, pod));
    }
    disk.fill();
    let (container, pod) = &pods[0];
    answered("RemoveContainer", node.remove(container)).await.unwrap();
    answered("RemovePodSandbox", node.remove_pod(pod)).await.unwrap();
    disk.fill();
    answered("StopPodSandbox", node.stop_pod(&pods[1].1)).await.unwrap();
    disk.fill();
    // The next daemon begins on the full disk, and knows what this one has acknowledged.
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.pods(v1::PodSandboxFilter::default()).await.len(), 2);
    assert_eq!(node.output(&pods[2].0, "echo here").await, "here");
    answered("RemovePodSandbox", node.remove_pod(&pods[1].1)).await.unwrap();
    answered("RemovePodSandbox", node.remove_pod(&pods[2].1)).await.unwrap();
    let spec = v1::ImageSpec { image: image::NAME.to_owned(), ..Default::default() };
    let request = v1::RemoveImageRequest { image: Some(spec) };
    disk.fill();
    answered("RemoveImage", node.images.remove_image(request)).await.unwrap();
    eventually("its layers make room", async || disk.has_room()).await;
    assert_eq!(rows(&disk.path), 0);
    leaks::assert_nothing_left_but_mounts(&node, &["root"]).await;
    node.kill_daemon();
}

#[tokio::test]
async fn a_full_state_directory_can_be_emptied_and_takes_pods_again_without_a_restart() {
    requires_root!();
    let mut node = Node::start().await;
    let disk = Disk::run(&mut node);
    node.start_daemon().await;
    let mut pods = Vec::new();
    for number in 0..3 {
        let pod = node.pod(&format!("p{number}")).await;
        pods.push((node.launch(&pod, requests::script("c", "sleep 1000")).await, pod));
    }
    disk.fill();
    let error = answered("RunPodSandbox", node.run(requests::sandbox(&node, "new"))).await;
    let error = error.unwrap_err();
    assert!(error.message().contains("No space left"), "{error}");
    let (container, pod) = &pods[0];
    answered("StopContainer", node.stop(container, 0)).await.unwrap();
    // The end that it tells needs no room either.
    assert_eq!(node.status(container).await.unwrap().exit_code, 137);
    answered("RemovePodSandbox", node.remove_pod(pod)).await.unwrap();
    disk.fill();
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.output(&pods[2].0, "echo here").await, "here");
    answered("StopPodSandbox", node.stop_pod(&pods[1].1)).await.unwrap();
    disk.empty();
    let new = answered("RunPodSandbox", node.pod("new")).await;
    let runs = answered("a container", node.launch(&new, requests::script("c", "sleep 9"))).await;
    assert_eq!(node.output(&runs, "echo here").await, "here");
    for pod in node.pods(v1::PodSandboxFilter::default()).await {
        answered("RemovePodSandbox", node.remove_pod(&pod.id)).await.unwrap();
    }
    leaks::assert_nothing_left_but_mounts(&node, &["state"]).await;
    node.kill_daemon();
}

#[tokio::test]
async fn a_disk_that_takes_no_writes_holds_up_those_who_write() {
    requires_root!();
    let mut node = Node::start().await;
    let disk = Disk::below(&mut node);
    node.start_daemon().await;
    let pod = node.pod("pod").await;
    let runs = node.launch(&pod, requests::script("runs", "sleep 1000")).await;
    let wait = "while ! test -e /dev/shm/now; do usleep 5000; done; exit 5";
    let ends = node.launch(&pod, requests::script("ends", wait)).await;
    disk.freeze(true);
    // An end is stored, which waits for the disk, and a sandbox is asked for.
    node.output(&runs, "touch /dev/shm/now").await;
    let status = answered("the end", node.end_of(&ends)).await;
    assert_eq!(status.exit_code, 5);
    let mut runtime = node.runtime.clone();
    let config = requests::sandbox(&node, "waits");
    let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    let waits = tokio::spawn(async move { runtime.run_pod_sandbox(request).await });
    for _ in 0..20 {
        answered("exec", node.exec(&runs, "true", 30)).await.unwrap();
        answered("Version", node.runtime.version(v1::VersionRequest::default())).await.unwrap();
    }
    let status = answered("Status", node.runtime.status(v1::StatusRequest::default())).await;
    let conditions = status.unwrap().into_inner().status.unwrap().conditions;
    let ready = conditions.iter().find(|condition| condition.r#type == "RuntimeReady").unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (false, "StorageNotAnswering"));
    assert!(!waits.is_finished());
    disk.freeze(false);
    let other = answered("RunPodSandbox", waits).await.unwrap().unwrap().into_inner();
    node.remove_pod(&other.pod_sandbox_id).await.unwrap();
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.status(&ends).await.unwrap().exit_code, 5);
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left_but_mounts(&node, &["root"]).await;
    node.kill_daemon();
}

#[tokio::test]
async fn on_a_disk_that_became_read_only_pods_stop_and_a_restart_serves_what_it_can() {
    requires_root!();
    let mut node = Node::start().await;
    let disk = Disk::below(&mut node);
    node.start_daemon().await;
    let pod = node.pod("pod").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let other = node.pod("other").await;
    let runs = node.launch(&other, requests::script("c", "sleep 1000")).await;
    disk.fail();
    assert!(fs::write(disk.path.join("x"), "").is_err(), "it is read-only");
    answered("StopContainer", node.stop(&container, 0)).await.unwrap();
    answered("StopPodSandbox", node.stop_pod(&pod)).await.unwrap();
    assert_eq!(node.output(&runs, "echo here").await, "here");
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.output(&runs, "echo here").await, "here");
    eventually("what was stopped is known to be stopped", async || {
        node.pod_status(&pod).await.unwrap().state
            == i32::from(v1::PodSandboxState::SandboxNotready)
    })
    .await;
    answered("StopPodSandbox", node.stop_pod(&other)).await.unwrap();
    node.kill_daemon();
}
