//! Requests with values that nobody would send on purpose: the daemon answers each of them,
//! and nothing is left. The seed is fixed, so that a failure comes again.

mod common;

use std::time::{Duration, Instant};

use common::{Node, leaks, random::Random, requests};
use criquet::cri::v1;
use tonic::Code;

/// Texts and numbers that nobody would send on purpose.
trait Odd {
    fn text(&mut self) -> String;
    fn number(&mut self) -> i64;
}

impl Odd for Random {
    fn text(&mut self) -> String {
        match self.below(14) {
            0 => String::new(),
            1 => "\0".to_owned(),
            2 => "a\0b".to_owned(),
            3 => "x".repeat(5000),
            4 => "/".repeat(300),
            5 => format!("/{}", "y".repeat(300)),
            6 => "../../../etc/passwd".to_owned(),
            7 => "/proc/self/exe".to_owned(),
            8 => "line\nother\r\t\u{1b}[0m".to_owned(),
            9 => "\u{202e}\u{fffd}é漢%s%n{}".to_owned(),
            10 => "-1".to_owned(),
            11 => "18446744073709551616".to_owned(),
            12 => "/tmp".to_owned(),
            _ => "plain".to_owned(),
        }
    }

    fn number(&mut self) -> i64 {
        self.pick(&[0, 1, -1, 7, 1 << 20, i64::MAX, i64::MIN, i64::from(u32::MAX), 4096])
    }
}

type Sandbox = v1::PodSandboxConfig;
type Container = v1::ContainerConfig;

fn change_sandbox(random: &mut Random, config: &mut Sandbox) {
    let text = random.text();
    let metadata = config.metadata.get_or_insert_default();
    let linux = config.linux.get_or_insert_default();
    match random.below(17) {
        0 => metadata.name = text,
        1 => metadata.namespace = text,
        2 => metadata.uid = text,
        3 => metadata.attempt = random.next() as u32,
        4 => config.hostname = text,
        5 => drop(config.labels.insert(text.clone(), text)),
        6 => drop(config.annotations.insert(text.clone(), text)),
        7 => drop(linux.sysctls.insert(text, random.text())),
        8 => drop(linux.sysctls.insert("net.core.somaxconn".to_owned(), text)),
        9 => {
            let (servers, searches) = (vec![text], vec![random.text()]);
            let options = vec![random.text()];
            config.dns_config = Some(v1::DnsConfig { servers, searches, options });
        }
        10 => config.port_mappings.push(v1::PortMapping {
            protocol: random.number() as i32,
            container_port: random.number() as i32,
            host_port: random.number() as i32,
            host_ip: text,
        }),
        11 => {
            let options = linux.security_context.get_or_insert_default();
            let options = options.namespace_options.get_or_insert_default();
            options.pid = random.below(6) as i32;
            options.ipc = random.below(6) as i32;
            options.target_id = text;
        }
        12 => linux.security_context.get_or_insert_default().privileged = true,
        13 => {
            let value = random.number();
            let context = linux.security_context.get_or_insert_default();
            context.run_as_user = Some(v1::Int64Value { value });
        }
        14 => config.metadata = None,
        15 => config.linux = None,
        // A parent elsewhere would be made outside of what the test may touch.
        _ => linux.cgroup_parent = random.pick(&["..", "a\0", "/", "x.slice", "/a/../b"]).into(),
    }
}

fn change_container(random: &mut Random, config: &mut Container) {
    let text = random.text();
    let linux = config.linux.get_or_insert_default();
    match random.below(24) {
        0 => config.metadata.get_or_insert_default().name = text,
        1 => config.metadata.get_or_insert_default().attempt = random.next() as u32,
        2 => config.image.get_or_insert_default().image = text,
        3 => config.command = vec![text],
        4 => config.args = vec![text, random.text()],
        5 => config.working_dir = text,
        6 => config.envs.push(v1::KeyValue { key: text, value: random.text().into() }),
        7 => config.log_path = text,
        8 => drop(config.labels.insert(text.clone(), text)),
        9 => config.mounts.push(v1::Mount {
            container_path: text,
            host_path: random.pick(&["/dev/null", "relative", "", "/dev/null/x", "/a\0b"]).into(),
            propagation: random.below(5) as i32,
            readonly: random.below(2) == 0,
            recursive_read_only: random.below(4) == 0,
            ..Default::default()
        }),
        10 => config.mounts.push(v1::Mount {
            container_path: "/mnt".to_owned(),
            host_path: "/dev/null".to_owned(),
            mount_options: vec![text],
            ..Default::default()
        }),
        11 => config.devices.push(v1::Device {
            container_path: text,
            host_path: random.pick(&["/dev/null", "", "/dev/no\0", "/etc/passwd"]).into(),
            permissions: random.pick(&["", "rwm", "x", "\0"]).into(),
        }),
        12 => config.stop_signal = random.number() as i32,
        13 => {
            let resources = linux.resources.get_or_insert_default();
            resources.cpu_period = random.number();
            resources.cpu_quota = random.number();
        }
        14 => linux.resources.get_or_insert_default().cpu_shares = random.number(),
        15 => linux.resources.get_or_insert_default().memory_limit_in_bytes = random.number(),
        16 => linux.resources.get_or_insert_default().oom_score_adj = random.number(),
        17 => linux.resources.get_or_insert_default().cpuset_cpus = text,
        18 => drop(linux.resources.get_or_insert_default().unified.insert(text, random.text())),
        19 => requests::security(config).run_as_username = text,
        20 => {
            let value = random.number();
            requests::security(config).run_as_user = Some(v1::Int64Value { value });
            requests::security(config).supplemental_groups = vec![random.number()];
        }
        21 => {
            requests::security(config).capabilities = Some(v1::Capability {
                add_capabilities: vec![text],
                drop_capabilities: vec![random.text()],
                ..Default::default()
            });
        }
        22 => {
            requests::security(config).masked_paths = vec![text];
            requests::security(config).readonly_paths = vec![random.text()];
        }
        _ => {
            requests::security(config).seccomp = Some(v1::SecurityProfile {
                profile_type: random.below(4) as i32,
                localhost_ref: text,
            });
        }
    }
}

/// Keeps an answer that no caller can do something about.
fn judge(useless: &mut Vec<String>, status: &tonic::Status, request: &dyn std::fmt::Debug) {
    let of_ours = [Code::Unknown, Code::Internal, Code::Cancelled];
    if of_ours.contains(&status.code()) || status.message().is_empty() {
        let request: String = format!("{request:?}").chars().take(3000).collect();
        useless.push(format!("{status}\n{request}"));
    }
}

async fn soon<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), call).await.expect("the daemon hangs")
}

#[tokio::test]
async fn every_request_is_answered() {
    requires_root!();
    let mut node = Node::start().await;
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let pod = node.pod("fuzz").await;
    let end = Instant::now() + Duration::from_secs(10);
    let mut count = 0;
    let mut useless = Vec::new();
    while Instant::now() < end {
        count += 1;
        if random.below(4) == 0 {
            let mut config = requests::sandbox(&node, &format!("s{count}"));
            for _ in 0..=random.below(2) {
                change_sandbox(&mut random, &mut config);
            }
            match soon(node.run(config.clone())).await {
                Ok(id) => soon(node.remove_pod(&id)).await.unwrap(),
                Err(status) => judge(&mut useless, &status, &config),
            }
            continue;
        }
        let mut config = requests::script(&format!("c{count}"), "true");
        for _ in 0..=random.below(2) {
            change_container(&mut random, &mut config);
        }
        match soon(node.create(&pod, config.clone())).await {
            Err(status) => judge(&mut useless, &status, &config),
            Ok(id) => {
                if let Err(status) = soon(node.start_container(&id)).await {
                    judge(&mut useless, &status, &config);
                }
                soon(node.remove(&id)).await.unwrap();
            }
        }
    }
    assert!(useless.is_empty(), "of {count} requests: {useless:#?}");
    assert!(!node.log().contains("panicked"), "{}", node.log());
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn odd_ids_are_answered() {
    requires_root!();
    let mut node = Node::start().await;
    let mut random = Random::new(7);
    for _ in 0..200 {
        let id = random.text();
        for result in [
            soon(node.status(&id)).await.map(drop),
            soon(node.pod_status(&id)).await.map(drop),
            soon(node.start_container(&id)).await,
            soon(node.exec(&id, "true", random.number())).await.map(drop),
        ] {
            assert_eq!(result.unwrap_err().code(), Code::NotFound, "{id:?}");
        }
        soon(node.stop(&id, random.number())).await.unwrap();
        soon(node.remove(&id)).await.unwrap();
        soon(node.stop_pod(&id)).await.unwrap();
        soon(node.remove_pod(&id)).await.unwrap();
    }
}
