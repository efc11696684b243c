//! `criquet doctor`, which names what is on the machine and belongs to no pod, and removes it.

mod common;

use std::{
    fs,
    os::unix::{fs::DirBuilderExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use common::{Node, answered, leaks, requests};
use criquet::{
    cri::v1,
    runtime::cgroup::{Cgroup, Version},
};
use rustix::{
    mount::{MountFlags, mount},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

fn doctor(node: &Node, arguments: &[&str]) -> Command {
    let mut command = node.inside(env!("CARGO_BIN_EXE_criquet"));
    command.arg("doctor").arg("--config").arg(node.path("config.toml")).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// A pod with a host port, so that there are rules.
fn config(node: &Node, name: &str, port: i32) -> v1::PodSandboxConfig {
    let mut config = requests::sandbox(node, name);
    config.port_mappings.push(v1::PortMapping {
        protocol: v1::Protocol::Tcp.into(),
        container_port: 80,
        host_port: port,
        ..Default::default()
    });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_pods_that_come_and_go_is_a_stranger() {
    requires_root!();
    let mut node = Node::start_with("warm_monitors = 2").await;
    let mut looks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let mut command = doctor(&node, &["-o", "json"]);
        // One after the other, each while pods are made and removed.
        looks.spawn_blocking(move || {
            std::thread::sleep(std::time::Duration::from_millis(number * 150));
            command.output().unwrap()
        });
    }
    let mut rounds = 0;
    while !looks.is_empty() || rounds < 4 {
        rounds += 1;
        let mut pods = Vec::new();
        for number in 0..3 {
            let port = 20_000 + number;
            let name = format!("pod{rounds}-{number}");
            let pod = answered("run", node.run(config(&node, &name, port))).await.unwrap();
            node.launch(&pod, requests::script("app", "sleep 1000")).await;
            pods.push(pod);
        }
        for pod in pods {
            answered("stop", node.stop_pod(&pod)).await.unwrap();
            answered("remove", node.remove_pod(&pod)).await.unwrap();
        }
        while let Some(look) = looks.try_join_next() {
            let output = look.unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        }
    }
    let output = doctor(&node, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("Nothing is here"), "{}", said(&output));
    leaks::assert_nothing_left(&node).await;
}

/// What a test leaves about, as a daemon that went wrong would.
struct Planted {
    id: String,
    cgroup: PathBuf,
    children: Vec<Child>,
}

impl Drop for Planted {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn private(path: &Path) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).unwrap();
}

/// One stranger of each kind.
fn plant(node: &Node, pod: &str) -> Planted {
    let id = "5".repeat(64);
    let mut children = vec![monitor(node)];
    let cgroup = PathBuf::from(format!("/{}/{id}", node.cgroup));
    let made = Cgroup::create(Version::detect().unwrap(), &cgroup, None).unwrap();
    let sleeper = Command::new("sleep").arg("100000").spawn().unwrap();
    for controller in ["freezer", "memory", "pids"] {
        fs::write(made.file_of(controller, "cgroup.procs"), sleeper.id().to_string()).unwrap();
    }
    children.push(sleeper);

    for name in ["root/containers", "root/work", "root/volumes"] {
        private(&node.path(name).join(&id).join("deep/down"));
    }
    let shm = node.path("state/pods").join(&id).join("shm");
    private(&shm);
    mount("shm", &shm, "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(node.path("state/bundles").join(&id), "{}").unwrap();
    let namespace = node.path("netns").join(format!("criquet-{id}"));
    fs::write(&namespace, "").unwrap();
    rustix::mount::mount_bind(node.namespace(), &namespace).unwrap();
    private(&node.path("root/images/layers/4711"));
    fs::write(node.path("root/images/recipes/4711"), "").unwrap();
    let held = serde_json::json!({ "image": format!("sha256:{id}"), "layers": [] });
    fs::write(node.path("root/images/holders").join(&id), held.to_string()).unwrap();

    run(node, &["ip", "link", "add", "cq0000000000001", "type", "veth", "peer", "name", "other"]);
    run(node, &["ip", "link", "set", "cq0000000000001", "master", "criquet0"]);
    let element = "{ tcp . 4711 : 10.88.0.9 . 80 }";
    run(node, &["nft", "add", "element", "inet", "criquet", "any4", element]);

    let database = rusqlite::Connection::open(node.path("root/state.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let homeless = "INSERT INTO records SELECT collection, ?1, \
                    CAST(replace(CAST(body AS TEXT), ?2, ?1) AS BLOB) FROM records \
                    WHERE collection = 'containers' LIMIT 1";
    assert_eq!(database.execute(homeless, [&"6".repeat(64), pod]).unwrap(), 1);
    let broken = "INSERT INTO records VALUES ('broken', 'containers/x', CAST('\"{\"' AS BLOB))";
    assert_eq!(database.execute(broken, []).unwrap(), 1);
    Planted { id, cgroup, children }
}

fn run(node: &Node, command: &[&str]) {
    let output = node.inside(command[0]).args(&command[1..]).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
}

/// A process that looks like the monitor of a pod that is gone.
fn monitor(node: &Node) -> Child {
    let (namespace, socket) = (node.namespace(), node.path("state/pool/4711"));
    // Sockets belong to the network namespace of the thread that makes them.
    let make = move || {
        let namespace = fs::File::open(namespace).unwrap();
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).unwrap();
        UnixListener::bind(socket).unwrap()
    };
    let listener = std::thread::spawn(make).join().unwrap();
    let program = node.path("criquet-monitor");
    let sleep = String::from_utf8(Command::new("which").arg("sleep").output().unwrap().stdout);
    fs::copy(sleep.unwrap().trim(), &program).unwrap();
    let input = Stdio::from(std::os::fd::OwnedFd::from(listener));
    Command::new(program).arg("100000").stdin(input).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_stranger_is_found_and_removed() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.run(config(&node, "stays", 20_100)).await.unwrap();
    let app = node.launch(&pod, requests::script("app", "sleep 1000")).await;
    let mut planted = plant(&node, &pod);

    let found = doctor(&node, &["-o", "json"]).output().unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["daemon"], true);
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    for stranger in found["strangers"].as_array().unwrap() {
        *kinds.entry(stranger["what"].as_str().unwrap()).or_default() += 1;
        let place = stranger["where"].as_str().unwrap();
        assert!(!place.contains(&pod) && !place.contains(&app), "{stranger}");
        for field in ["why", "removal"] {
            assert!(!stranger[field].as_str().unwrap().is_empty(), "{stranger}");
        }
    }
    let expected = [
        ("cgroup", 1),
        ("device", 1),
        ("directory", 4),
        ("file", 1),
        ("holder", 1),
        ("layer", 2),
        ("mount", 1),
        ("namespace", 1),
        ("process", 1),
        ("record", 2),
        ("rule", 1),
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected, "{found:#}");

    let refused = doctor(&node, &["--remove"]).output().unwrap();
    assert!(said(&refused).contains("add --yes"), "{}", said(&refused));
    assert!(planted.children.iter_mut().all(|child| child.try_wait().unwrap().is_none()));

    // Their parent takes note of their ends, as the init of a machine would.
    let children = std::mem::take(&mut planted.children);
    let ends: Vec<_> = children
        .into_iter()
        .map(|mut child| std::thread::spawn(move || child.wait().unwrap()))
        .collect();
    let removed = doctor(&node, &["--remove", "--yes"]).output().unwrap();
    assert_eq!(removed.status.code(), Some(0), "{}", said(&removed));
    for end in ends {
        assert!(!end.join().unwrap().success());
    }
    let again = doctor(&node, &[]).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert!(Cgroup::open(Version::detect().unwrap(), &planted.cgroup).is_err());
    assert!(!node.path("root/containers").join(&planted.id).exists());

    // Who belongs here has not noticed.
    assert_eq!(node.output(&app, "echo here").await.trim(), "here");
    node.stop_pod(&pod).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_strangers_are_named_and_stay() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("stays").await;
    node.launch(&pod, requests::script("app", "sleep 1000")).await;
    node.kill_daemon();

    let nothing = doctor(&node, &[]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(3), "{}", said(&nothing));
    let stranger = node.path("root/containers").join("7".repeat(64));
    private(&stranger);
    let found = doctor(&node, &["--remove", "--yes"]).output().unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    for expected in [stranger.to_str().unwrap(), "no daemon answers", "nothing is removed"] {
        assert!(said(&found).contains(expected), "{expected}: {}", said(&found));
    }
    assert!(stranger.exists());

    node.start_daemon().await;
    node.stop_pod(&pod).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
