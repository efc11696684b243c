//! A daemon takes over the pods of the release before it, and that one takes them back.
//!
//! `CRIQUET_TEST_PREVIOUS` names the directory with the programs of the release before
//! (`criquet-previous` and `criquet-monitor-previous`, made by `build_previous` of
//! `scripts/lib.sh` from the revision that it names).

mod common;

use std::{fs, path::PathBuf, process::Command};

use common::{Node, eventually, leaks, requests};
use criquet::cri::v1;

/// What configurations of tests have that the release before does not know.
const NEW_KEYS: [&str; 2] = ["cgroup_driver", "cache_dir"];

/// The programs of the release before.
struct Previous(PathBuf);

impl Previous {
    /// Says why the test does not run where they are missing.
    fn find() -> Option<Self> {
        let directory = std::env::var_os("CRIQUET_TEST_PREVIOUS").map(PathBuf::from);
        if directory.is_none() {
            eprintln!("SKIPPED: CRIQUET_TEST_PREVIOUS names no release before this one");
        }
        directory.map(Self)
    }

    fn daemon(&self) -> PathBuf {
        self.0.join("criquet-previous")
    }

    /// Gives a node this release's configuration: its monitors for new pods, and no keys that
    /// it does not know.
    fn configure(&self, node: &Node) {
        let config = fs::read_to_string(node.path("config.toml")).unwrap();
        let own = env!("CARGO_BIN_EXE_criquet-monitor");
        let theirs = self.0.join("criquet-monitor-previous").display().to_string();
        assert!(config.contains(own));
        let is_known = |line: &&str| !NEW_KEYS.iter().any(|key| line.starts_with(key));
        let known: Vec<&str> = config.lines().filter(is_known).collect();
        fs::write(node.path("config.toml"), known.join("\n").replace(own, &theirs)).unwrap();
    }
}

#[tokio::test]
async fn pods_of_the_release_before_are_taken_over() {
    requires_root!();
    let Some(previous) = Previous::find() else { return };
    let mut node = Node::start().await;
    node.kill_daemon();
    // Everything as that release makes it, the database and the image as well.
    fs::remove_dir_all(node.path("root")).unwrap();
    fs::remove_dir_all(node.path("state")).unwrap();
    let own = fs::read_to_string(node.path("config.toml")).unwrap();
    previous.configure(&node);
    let imported = Command::new(previous.daemon())
        .args(["image", "import"])
        .arg(node.path("image.tar"))
        .arg("--config")
        .arg(node.path("config.toml"))
        .output()
        .unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    node.start_other_daemon(&previous.daemon()).await;
    let pod = node.pod("old").await;
    let runs = node.launch(&pod, requests::script("runs", "sleep 1000")).await;
    let wait = "while ! test -e /dev/shm/now; do usleep 5000; done; exit 42";
    let ends = node.launch(&pod, requests::script("ends", wait)).await;
    let waits = node.create(&pod, requests::script("waits", "sleep 1000")).await.unwrap();
    let before = node.status(&runs).await.unwrap();
    let address = node.pod_status(&pod).await.unwrap().network.unwrap().ip;
    node.output(&runs, "(usleep 300000; touch /dev/shm/now) > /dev/null 2>&1 &").await;
    node.kill_daemon();

    fs::write(node.path("config.toml"), own).unwrap();
    node.start_daemon().await;
    assert!(node.path("root/state.db.v0").exists(), "a copy of its database is kept");
    let status = node.end_of(&ends).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (42, "Error"));
    let after = node.status(&runs).await.unwrap();
    assert_eq!((after.state, after.started_at), (before.state, before.started_at));
    assert_eq!(node.pod_status(&pod).await.unwrap().network.unwrap().ip, address);
    assert_eq!(node.output(&runs, "echo here").await, "here");
    node.start_container(&waits).await.unwrap();
    assert_eq!(node.output(&waits, "hostname").await, "old");
    let error = node.exec(&waits, "sleep 100", 1).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
    node.stop(&waits, 0).await.unwrap();
    node.remove(&waits).await.unwrap();
    let new = node.pod("new").await;
    node.launch(&new, requests::script("c", "sleep 1000")).await;
    for pod in [pod, new] {
        node.remove_pod(&pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn the_release_before_takes_back_what_this_one_made() {
    requires_root!();
    let Some(previous) = Previous::find() else { return };
    let mut node = Node::start().await;
    let pod = node.pod("new").await;
    let runs = node.launch(&pod, requests::script("runs", "sleep 1000")).await;
    node.kill_daemon();
    previous.configure(&node);
    node.start_other_daemon(&previous.daemon()).await;
    let running = i32::from(v1::ContainerState::ContainerRunning);
    assert_eq!(node.status(&runs).await.unwrap().state, running);
    assert_eq!(node.output(&runs, "echo here").await, "here");
    let other = node.launch(&pod, requests::script("other", "sleep 1000")).await;
    node.stop(&other, 0).await.unwrap();
    assert_eq!(node.status(&other).await.unwrap().exit_code, 137);
    node.remove_pod(&pod).await.unwrap();
    eventually("its monitor has ended", async || node.monitors().is_empty()).await;
}
