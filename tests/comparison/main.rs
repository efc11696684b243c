//! The same container under containerd with runc and under Criquet, looked at from outside:
//! every difference is one of those that docs/compared.md gives the reason for.
//!
//! `CRIQUET_TEST_CONTAINERD` is the directory of containerd's programs, `CRIQUET_TEST_RUNC` is
//! runc. The table of differences is printed.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;
mod containerd;
mod facts;
mod known;

use std::collections::BTreeMap;

use criquet::cri::v1;

use common::{Node, image, requests};
use containerd::Containerd;
use facts::Facts;

/// What a container is asked for, by a name.
fn cases() -> Vec<(&'static str, v1::ContainerConfig)> {
    let case = |name: &'static str, change: fn(&mut v1::LinuxContainerSecurityContext)| {
        let mut config = requests::script(name, "");
        config.command = ["sleep", "1000"].map(str::to_owned).into();
        config.log_path = String::new();
        change(requests::security(&mut config));
        (name, config)
    };
    let mut limited = case("limited", |_| {});
    *requests::resources(&mut limited.1) = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 500,
        cpuset_cpus: "0".to_owned(),
        ..Default::default()
    };
    limited.1.mounts.push(v1::Mount {
        container_path: "/mnt/read-only".to_owned(),
        host_path: "/usr/share".to_owned(),
        readonly: true,
        ..Default::default()
    });
    limited.1.envs.push(v1::KeyValue { key: "A".to_owned(), value: "1".into() });
    vec![
        limited,
        case("plain", |_| {}),
        case("privileged", |security| security.privileged = true),
        case("restricted", |security| {
            security.run_as_user = Some(v1::Int64Value { value: 1000 });
            security.no_new_privs = true;
            security.readonly_rootfs = true;
            security.capabilities = Some(v1::Capability {
                drop_capabilities: vec!["ALL".to_owned()],
                ..Default::default()
            });
            let kind = v1::security_profile::ProfileType::RuntimeDefault.into();
            security.seccomp =
                Some(v1::SecurityProfile { profile_type: kind, localhost_ref: String::new() });
        }),
        case("tracer", |security| {
            security.supplemental_groups = vec![7, 50_000];
            security.capabilities = Some(v1::Capability {
                add_capabilities: vec!["SYS_PTRACE".to_owned(), "NET_ADMIN".to_owned()],
                drop_capabilities: vec!["CHOWN".to_owned()],
                ..Default::default()
            });
        }),
    ]
}

/// A pod on the host's network, so that no plugins are needed.
fn sandbox(node: &Node, parent: &str) -> v1::PodSandboxConfig {
    let mut config = requests::sandbox(node, "compared");
    config.log_directory = String::new();
    config.hostname = String::new();
    let linux = config.linux.get_or_insert_default();
    linux.cgroup_parent = parent.to_owned();
    let security = linux.security_context.get_or_insert_default();
    security.privileged = true;
    security.namespace_options = Some(v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        ..requests::own_pids()
    });
    config
}

fn on_the_hosts_network(mut config: v1::ContainerConfig) -> v1::ContainerConfig {
    if let Some(options) = &mut requests::security(&mut config).namespace_options {
        options.network = v1::NamespaceMode::Node.into();
    }
    config
}

#[test]
fn every_reason_is_explained() {
    let text = include_str!("../../docs/compared.md");
    for reason in known::reasons() {
        assert!(text.contains(&format!("\n| {reason} | ")), "{reason}");
    }
}

#[tokio::test]
async fn containers_differ_only_where_there_is_a_reason() {
    requires_root!();
    let mut node = Node::start().await;
    let Some(mut peer) = Containerd::start(&node).await else { return };
    let config = sandbox(&node, &format!("/{}/own", node.cgroup));
    let pod = node.run(config).await.unwrap();
    let config = sandbox(&node, &format!("/{}/peer", node.cgroup));
    let other = peer.run(config.clone()).await;
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, container) in cases() {
        let container = on_the_hosts_network(container);
        let id = node.launch(&pod, container.clone()).await;
        let own = Facts::of(node.pid_of(&id).await);
        let theirs = Facts::of(peer.launch(&other, &config, container).await);
        for (what, own, theirs) in own.differences(&theirs) {
            let row = format!("| {name} | {what} | {own} | {theirs} |");
            match known::reason(&what) {
                Some(reason) => rows.entry(reason.to_owned()).or_default().push(row),
                None => rows.entry(String::new()).or_default().push(row),
            }
        }
    }
    peer.remove(&other).await;
    println!("| container | what | Criquet | containerd and runc |\n|---|---|---|---|");
    rows.values().flatten().for_each(|row| println!("{row}"));
    let unknown = rows.get("");
    assert!(unknown.is_none(), "without a reason:\n{}", unknown.unwrap().join("\n"));
    node.remove_pod(&pod).await.unwrap();
}

impl Node {
    /// The first process of a container.
    async fn pid_of(&mut self, id: &str) -> i64 {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let answer = self.runtime.container_status(request).await.unwrap().into_inner();
        containerd::pid_in(&answer.info)
    }
}

/// The image's name, for containerd as well.
const IMAGE: &str = image::NAME;
