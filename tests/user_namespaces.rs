//! Pods with a user namespace of their own (`hostUsers: false`).

#[macro_use]
mod common;

use std::{fs, os::unix::fs::MetadataExt};

use common::{Node, leaks, requests};
use criquet::cri::v1;

/// Where the users of these pods are on the host.
const HOST: u32 = 200_000;
const COUNT: u32 = 65_536;

fn mappings() -> Vec<v1::IdMapping> {
    vec![v1::IdMapping { host_id: HOST, container_id: 0, length: COUNT }]
}

fn options(pid: v1::NamespaceMode, network: v1::NamespaceMode) -> Option<v1::NamespaceOption> {
    Some(v1::NamespaceOption {
        pid: pid.into(),
        network: network.into(),
        userns_options: Some(v1::UserNamespace {
            mode: v1::NamespaceMode::Pod.into(),
            uids: mappings(),
            gids: mappings(),
        }),
        ..Default::default()
    })
}

async fn pod(node: &mut Node, name: &str, options: Option<v1::NamespaceOption>) -> String {
    let mut config = requests::sandbox(node, name);
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = options;
    node.run(config).await.unwrap()
}

fn script(name: &str, script: &str, options: Option<v1::NamespaceOption>) -> v1::ContainerConfig {
    let mut config = requests::script(name, script);
    requests::security(&mut config).namespace_options = options;
    config
}

async fn has_user_namespaces(node: &mut Node) -> bool {
    let status = node.runtime.status(v1::StatusRequest::default()).await.unwrap().into_inner();
    let handler = status.runtime_handlers.first().cloned().unwrap_or_default();
    handler.features.is_some_and(|features| features.user_namespaces)
}

macro_rules! requires_user_namespaces {
    ($node:expr) => {
        if !has_user_namespaces(&mut $node).await {
            println!("SKIPPED: this kernel, or the file system of /tmp, has no idmapped mounts");
            return;
        }
    };
}

#[tokio::test]
async fn root_of_a_pod_is_nobody_on_the_host() {
    requires_root!();
    let mut node = Node::start().await;
    requires_user_namespaces!(node);
    let options = options(v1::NamespaceMode::Container, v1::NamespaceMode::Pod);
    let pod_id = pod(&mut node, "p", options.clone()).await;
    let volume = node.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("of-root"), "x").unwrap();
    fs::set_permissions(
        volume.join("of-root"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let mut config = script("c", "exec sleep 1000", options.clone());
    for (path, mapped) in [("/mapped", true), ("/plain", false)] {
        let mappings = if mapped { mappings() } else { Vec::new() };
        config.mounts.push(v1::Mount {
            container_path: path.to_owned(),
            host_path: volume.display().to_string(),
            uid_mappings: mappings.clone(),
            gid_mappings: mappings,
            ..Default::default()
        });
    }
    let id = node.launch(&pod_id, config).await;
    // Both the first process and an exec.
    let map = format!("0 {HOST} {COUNT}");
    for process in ["1", "self"] {
        let map_of = format!("read a b c < /proc/{process}/uid_map; echo $a $b $c; id -u");
        assert_eq!(node.output(&id, &map_of).await, format!("{map}\n0"));
    }
    let monitor = node.monitor_of(&pod_id).as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    let pid = children.trim();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), HOST);
    // Files of the image are root's, and what is written belongs to root here, and to nobody
    // there.
    assert_eq!(node.output(&id, "stat -c %u:%g / /bin /etc/hosts /dev/shm | sort -u").await, "0:0");
    assert_eq!(node.output(&id, "touch /new && stat -c %u /new && chown 7 /new").await, "0");
    assert_eq!(
        node.output(&id, "echo 10.0.0.1 x >> /etc/hosts; echo y > /dev/shm/y; echo z > /dev/null")
            .await,
        ""
    );
    assert_eq!(node.output(&id, "cat /mapped/of-root && touch /mapped/mine").await, "x");
    assert_eq!(fs::metadata(volume.join("mine")).unwrap().uid(), 0);
    let refused = node.exec(&id, "cat /plain/of-root", 10).await.unwrap();
    assert_ne!(refused.exit_code, 0, "a volume without a mapping is the host's root's");
    // All its capabilities are those of its own namespaces.
    assert_eq!(node.output(&id, "ip link set lo up && echo up").await, "up");
    let wanted = "mknod /dev/sda b 8 0 2> /dev/null; echo $?";
    assert_eq!(node.output(&id, wanted).await, "1");
    let status = node.pod_status(&pod_id).await.unwrap();
    let told = status.linux.unwrap().namespaces.unwrap().options.unwrap().userns_options.unwrap();
    assert_eq!(told.uids, mappings());
    node.remove_pod(&pod_id).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn users_terminals_and_restarts_work_as_without() {
    requires_root!();
    let mut node = Node::start().await;
    requires_user_namespaces!(node);
    let options = options(v1::NamespaceMode::Container, v1::NamespaceMode::Pod);
    let pod_id = pod(&mut node, "p", options.clone()).await;
    let mut config = script("c", "echo out > /dev/stdout; id -u; exec sleep 1000", options.clone());
    requests::security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
    let log = node.container_log(&config);
    let id = node.launch(&pod_id, config).await;
    common::eventually("its user writes", async || {
        common::log_texts(&log, "stdout") == ["out", "1000"]
    })
    .await;
    let mut config = script("tty", "test -t 0 && echo yes; exec sleep 1000", options.clone());
    config.tty = true;
    let log = node.container_log(&config);
    node.launch(&pod_id, config).await;
    common::eventually("it has a terminal", async || common::log_texts(&log, "stdout") == ["yes"])
        .await;
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.output(&id, "id -u; echo x > /dev/stderr").await, "1000");
    let mut config = script("far", "true", options.clone());
    requests::security(&mut config).run_as_user = Some(v1::Int64Value { value: 70_000 });
    let error = node.create(&pod_id, config).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("user namespace"), "{error}");
    node.remove_pod(&pod_id).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_shared_pid_namespace_belongs_to_the_users_of_the_pod() {
    requires_root!();
    let mut node = Node::start().await;
    requires_user_namespaces!(node);
    let options = options(v1::NamespaceMode::Pod, v1::NamespaceMode::Pod);
    let pod_id = pod(&mut node, "p", options.clone()).await;
    let id = node.launch(&pod_id, script("a", "exec sleep 1000", options.clone())).await;
    node.launch(&pod_id, script("b", "exec sleep 1003", options.clone())).await;
    assert_eq!(node.output(&id, "ps -o args | grep -c '[s]leep 100'").await, "2");
    assert_eq!(node.output(&id, "stat -c %u /proc/1").await, "0");
    node.remove_pod(&pod_id).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn the_hosts_network_goes_with_users_of_ones_own() {
    requires_root!();
    let mut node = Node::start().await;
    requires_user_namespaces!(node);
    let options = options(v1::NamespaceMode::Container, v1::NamespaceMode::Node);
    let pod_id = pod(&mut node, "p", options.clone()).await;
    let id = node.launch(&pod_id, script("a", "exec sleep 1000", options)).await;
    let host =
        v1::NamespaceOption { network: v1::NamespaceMode::Node.into(), ..Default::default() };
    let other = pod(&mut node, "host", Some(host)).await;
    let monitor = node.monitor_of(&other).as_raw_nonzero();
    let own = fs::read_link(format!("/proc/{monitor}/ns/net")).unwrap();
    let theirs = node.output(&id, "readlink /proc/self/ns/net").await;
    assert_eq!(theirs, own.display().to_string());
    let refused = node.exec(&id, "ip link add x1 type veth", 10).await.unwrap();
    assert_ne!(refused.exit_code, 0, "its root is not the host's");
    assert_eq!(node.output(&id, "ls /sys/class/net | grep -c '^lo$'").await, "1");
    let refused = node.exec(&id, "touch /sys/x || echo 1 > /sys/kernel/uevent_seqnum", 10).await;
    assert_ne!(refused.unwrap().exit_code, 0);
    node.remove_pod(&other).await.unwrap();
    node.remove_pod(&pod_id).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
