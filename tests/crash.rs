//! The daemon dies at each of its crash points in turn, a daemon of its own for each: what was
//! acknowledged is there, what was half made is whole or gone, and nothing is left behind.

mod common;

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use common::{Node, image, leaks, requests};
use criquet::cri::v1;
use tonic::Status;

/// More than any call passes; a walk that comes so far does not end.
const MOST: u32 = 60;

/// Lets a call meet the death of its daemon at every point that it passes. `prepare` makes what
/// the call is about, `act` makes the call, and `check` looks at what the next daemon has, with
/// whether the call was acknowledged, and takes it away.
async fn walk<T>(
    prepare: impl AsyncFnMut(&mut Node) -> T,
    act: impl AsyncFnMut(&mut Node, &T) -> Result<(), Status>,
    check: impl AsyncFnMut(&mut Node, &T, bool),
) {
    walk_on(Node::start().await, prepare, act, check).await;
}

/// The same on a node of its own making.
async fn walk_on<T>(
    mut node: Node,
    mut prepare: impl AsyncFnMut(&mut Node) -> T,
    mut act: impl AsyncFnMut(&mut Node, &T) -> Result<(), Status>,
    mut check: impl AsyncFnMut(&mut Node, &T, bool),
) {
    for number in 1..=MOST {
        let prepared = prepare(&mut node).await;
        node.kill_daemon();
        node.start_daemon_with("CRIQUET_CRASH_AT", &number.to_string()).await;
        let acknowledged = act(&mut node, &prepared).await.is_ok();
        let has_died = node.has_died().await;
        if !has_died {
            node.kill_daemon();
        }
        node.start_daemon().await;
        check(&mut node, &prepared, acknowledged).await;
        leaks::assert_nothing_left(&node).await;
        if !has_died {
            assert!(number > 1, "the call passes no crash point");
            return;
        }
    }
    panic!("a call passes more than {MOST} crash points");
}

async fn nothing(_: &mut Node) {}

async fn running(node: &mut Node) -> (String, String) {
    let pod = node.pod("pod").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    (pod, container)
}

async fn remove_all(node: &mut Node) {
    for pod in node.pods(v1::PodSandboxFilter::default()).await {
        node.remove_pod(&pod.id).await.unwrap();
    }
    assert!(node.containers(v1::ContainerFilter::default()).await.is_empty());
}

#[tokio::test]
async fn run_pod_sandbox() {
    requires_root!();
    let run = async |node: &mut Node, _: &()| {
        let config = requests::sandbox(node, "pod");
        node.run(config).await.map(drop)
    };
    walk(nothing, run, async |node, (), acknowledged| {
        let pods = node.pods(v1::PodSandboxFilter::default()).await;
        assert!(!acknowledged || pods.len() == 1);
        // Whole, or not there and its name free.
        let config = requests::sandbox(node, "pod");
        let pod = node.run(config).await.unwrap();
        assert!(pods.iter().all(|other| other.id == pod));
        let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
        assert_eq!(node.output(&container, "hostname").await, "pod");
        remove_all(node).await;
    })
    .await;
}

/// Plugins that give each pod one thing, and take it back.
const PLUGIN: &str = r#"#!/bin/sh
state=$(dirname "$0")/state
cat > /dev/null
mkdir -p "$state"
thing=$state/$(basename "$0")-$CNI_CONTAINERID
case $CNI_COMMAND in
    ADD) touch "$thing"; echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.9/24"}]}' ;;
    DEL) rm -f "$thing" ;;
esac
"#;

/// A node whose pods get their networks from two such plugins.
async fn node_with_plugins() -> Node {
    let mut node = Node::start().await;
    node.kill_daemon();
    let bin = node.path("cni-bin");
    fs::create_dir_all(&bin).unwrap();
    for name in ["one", "two"] {
        fs::write(bin.join(name), PLUGIN).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir_all(node.path("cni")).unwrap();
    let list = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"one"},{"type":"two"}]}"#;
    fs::write(node.path("cni/10-net.conflist"), list).unwrap();
    let config = fs::read_to_string(node.path("config.toml")).unwrap();
    let cni = format!("[cni]\nbin_dirs = [{bin:?}]");
    fs::write(node.path("config.toml"), config.replace("[cni]", &cni)).unwrap();
    node.start_daemon().await;
    node
}

/// What plugins gave to pods that are gone, as soon as nothing is done any more.
async fn nothing_is_left_of_plugins(node: &Node) {
    let left = || fs::read_dir(node.path("cni-bin/state")).map_or(0, Iterator::count);
    common::eventually("DEL follows ADD", async || left() == 0).await;
    let cached = fs::read_dir(node.path("cni-cache/results")).map_or(0, Iterator::count);
    assert_eq!(cached, 0, "cached results");
}

#[tokio::test]
async fn run_pod_sandbox_with_plugins() {
    requires_root!();
    let run = async |node: &mut Node, _: &()| {
        let config = requests::sandbox(node, "pod");
        node.run(config).await.map(drop)
    };
    let node = node_with_plugins().await;
    walk_on(node, nothing, run, async |node, (), _| {
        let config = requests::sandbox(node, "pod");
        node.run(config).await.unwrap();
        remove_all(node).await;
        nothing_is_left_of_plugins(node).await;
    })
    .await;
}

#[tokio::test]
async fn remove_pod_sandbox_with_plugins() {
    requires_root!();
    let remove = async |node: &mut Node, pod: &String| node.remove_pod(pod).await;
    let pod = async |node: &mut Node| node.pod("pod").await;
    walk_on(node_with_plugins().await, pod, remove, async |node, _, _| {
        remove_all(node).await;
        nothing_is_left_of_plugins(node).await;
    })
    .await;
}

#[tokio::test]
async fn create_container() {
    requires_root!();
    let script = || requests::script("c", "sleep 1000");
    let prepare = async |node: &mut Node| node.pod("pod").await;
    let create = async |node: &mut Node, pod: &String| node.create(pod, script()).await.map(drop);
    walk(prepare, create, async |node, pod, acknowledged| {
        let containers = node.containers(v1::ContainerFilter::default()).await;
        assert!(!acknowledged || containers.len() == 1);
        let id = node.create(pod, script()).await.unwrap();
        assert!(containers.iter().all(|other| other.id == id));
        node.start_container(&id).await.unwrap();
        assert_eq!(node.output(&id, "echo here").await, "here");
        remove_all(node).await;
    })
    .await;
}

#[tokio::test]
async fn start_container() {
    requires_root!();
    let prepare = async |node: &mut Node| {
        let pod = node.pod("pod").await;
        node.create(&pod, requests::script("c", "sleep 1000")).await.unwrap()
    };
    let start = async |node: &mut Node, id: &String| node.start_container(id).await;
    walk(prepare, start, async |node, id, acknowledged| {
        let state = node.status(id).await.unwrap().state;
        let running = i32::from(v1::ContainerState::ContainerRunning);
        assert!(!acknowledged || state == running);
        if state != running {
            assert_eq!(state, i32::from(v1::ContainerState::ContainerCreated));
            node.start_container(id).await.unwrap();
        }
        assert_eq!(node.output(id, "echo here").await, "here");
        remove_all(node).await;
    })
    .await;
}

#[tokio::test]
async fn stop_pod_sandbox() {
    requires_root!();
    let stop = async |node: &mut Node, (pod, _): &(String, String)| node.stop_pod(pod).await;
    walk(running, stop, async |node, (pod, container), acknowledged| {
        if acknowledged {
            let not_ready = i32::from(v1::PodSandboxState::SandboxNotready);
            assert_eq!(node.pod_status(pod).await.unwrap().state, not_ready);
        }
        node.stop_pod(pod).await.unwrap();
        let exited = i32::from(v1::ContainerState::ContainerExited);
        let status = node.status(container).await.unwrap();
        assert_eq!((status.state, status.exit_code), (exited, 137));
        remove_all(node).await;
    })
    .await;
}

#[tokio::test]
async fn remove_container() {
    requires_root!();
    let remove = async |node: &mut Node, (_, id): &(String, String)| node.remove(id).await;
    walk(running, remove, async |node, (pod, id), acknowledged| {
        assert!(!acknowledged || node.status(id).await.is_err());
        node.remove(id).await.unwrap();
        let again = node.launch(pod, requests::script("c", "sleep 1000")).await;
        assert_eq!(node.output(&again, "echo here").await, "here");
        remove_all(node).await;
    })
    .await;
}

#[tokio::test]
async fn remove_pod_sandbox() {
    requires_root!();
    let remove = async |node: &mut Node, (pod, _): &(String, String)| node.remove_pod(pod).await;
    walk(running, remove, async |node, (pod, _), acknowledged| {
        assert!(!acknowledged || node.pod_status(pod).await.is_err());
        node.remove_pod(pod).await.unwrap();
        remove_all(node).await;
    })
    .await;
}

/// A registry that serves one image from files, in the node's network namespace.
const REGISTRY: &str = r#"
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path):
        manifest = "application/vnd.docker.distribution.manifest.v2+json"
        return manifest if "/manifests/" in path else "application/octet-stream"
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Handler).serve_forever()
"#;

struct Registry(std::process::Child);

impl Registry {
    async fn start(node: &Node) -> Self {
        let directory = node.path("registry");
        image::lay_out(&directory.join("v2/crash"));
        let hosts = node.path("certs.d/127.0.0.1:5000");
        fs::create_dir_all(&hosts).unwrap();
        let toml = "server = \"http://127.0.0.1:5000\"\n";
        fs::write(hosts.join("hosts.toml"), toml).unwrap();
        let mut python = node.inside("python3");
        python.args(["-c", REGISTRY]).current_dir(&directory).stdin(Stdio::null());
        Self(python.spawn().unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pulled() -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec { image: "127.0.0.1:5000/crash:1".to_owned(), ..Default::default() })
}

async fn pull(node: &mut Node) -> Result<(), Status> {
    let request = v1::PullImageRequest { image: pulled(), ..Default::default() };
    node.images.pull_image(request).await.map(drop)
}

async fn is_there(node: &mut Node) -> bool {
    let request = v1::ImageStatusRequest { image: pulled(), ..Default::default() };
    node.images.image_status(request).await.unwrap().into_inner().image.is_some()
}

async fn remove_image(node: &mut Node) -> Result<(), Status> {
    let request = v1::RemoveImageRequest { image: pulled() };
    node.images.remove_image(request).await.map(drop)
}

#[tokio::test]
async fn pull_image() {
    requires_root!();
    let mut registry = None;
    let prepare = async |node: &mut Node| {
        if registry.is_none() {
            registry = Some(Registry::start(node).await);
            common::eventually("the registry serves", async || pull(node).await.is_ok()).await;
            remove_image(node).await.unwrap();
        }
    };
    let act = async |node: &mut Node, _: &()| pull(node).await;
    walk(prepare, act, async |node, (), acknowledged| {
        assert!(!acknowledged || is_there(node).await);
        pull(node).await.unwrap();
        assert!(is_there(node).await);
        remove_image(node).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn remove_image_with_layers() {
    requires_root!();
    let mut registry = None;
    let prepare = async |node: &mut Node| {
        if registry.is_none() {
            registry = Some(Registry::start(node).await);
        }
        common::eventually("the registry serves", async || pull(node).await.is_ok()).await;
    };
    let act = async |node: &mut Node, _: &()| remove_image(node).await;
    walk(prepare, act, async |node, (), acknowledged| {
        assert!(!acknowledged || !is_there(node).await);
        remove_image(node).await.unwrap();
        assert!(!is_there(node).await);
        pull(node).await.unwrap();
        remove_image(node).await.unwrap();
    })
    .await;
}
