//! The protocol between the daemon and CNI plugins, with plugins that write down what
//! they are told.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};

use super::harness::{Host, Pod, block_on, on_a_host};
use crate::{
    kind::Kind,
    network::{Error, Protocol},
};

const PLUGIN: &str = r#"#!/bin/sh
cd "$(dirname "$0")/.."
name=$(basename "$0")
number=$(ls log | wc -l)
{ echo "$CNI_COMMAND $name"; cat; echo; env | grep ^CNI_; } > "log/$(printf %03d "$number")"
cat "answer.$name.$CNI_COMMAND" 2> /dev/null
[ -e "sleep.$name.$CNI_COMMAND" ] && { sleep 60 & echo $! > child; wait; }
[ -e "leave.$name.$CNI_COMMAND" ] && { sleep 60 & echo $! > child; }
[ -e "kill.$name.$CNI_COMMAND" ] && kill -9 $$
exit "$(cat "exit.$name.$CNI_COMMAND" 2> /dev/null || echo 0)"
"#;

/// A host whose plugins `one` and `two` are such.
pub struct Fake {
    pub host: Host,
}

/// What a plugin was told.
pub struct Told {
    pub call: String,
    pub configuration: Value,
    environment: Vec<String>,
}

impl Told {
    pub fn variable(&self, name: &str) -> &str {
        let start = format!("{name}=");
        self.environment.iter().find_map(|line| line.strip_prefix(&start)).unwrap_or("(unset)")
    }
}

impl Fake {
    pub fn new(version: &str) -> Self {
        let host = Host::with(|options| options.cni_timeout = Duration::from_secs(20));
        let fake = Self { host };
        for directory in ["net.d", "bin", "log"] {
            fs::create_dir(fake.path(directory)).unwrap();
        }
        fs::write(fake.path("plugin"), PLUGIN).unwrap();
        for name in ["one", "two"] {
            // Written by another process: a writer's descriptor in a child of a test that
            // runs beside this one would make the file busy.
            let status = Command::new("install")
                .args(["-m", "755"])
                .args([fake.path("plugin"), fake.path("bin").join(name)])
                .status();
            assert!(status.unwrap().success());
        }
        fake.configure(&json!({
            "cniVersion": version,
            "name": "fake",
            "plugins": [
                {"type": "one", "extra": {"kept": 1}},
                {"type": "two", "capabilities": {
                    "portMappings": true, "bandwidth": true, "dns": true, "cgroupPath": true,
                    "mac": true, "io.kubernetes.cri.pod-annotations": false,
                }},
            ],
        }));
        fake.answer("one", "ADD", &json!({"cniVersion": version, "ips": []}));
        fake.answer("two", "ADD", &result(version));
        fake
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.host.directory.path().join(name)
    }

    pub fn configure(&self, list: &Value) {
        fs::write(self.path("net.d/10-fake.conflist"), list.to_string()).unwrap();
    }

    pub fn answer(&self, plugin: &str, verb: &str, answer: &Value) {
        fs::write(self.path(&format!("answer.{plugin}.{verb}")), answer.to_string()).unwrap();
    }

    pub fn fail(&self, plugin: &str, verb: &str, error: &Value) {
        self.answer(plugin, verb, error);
        fs::write(self.path(&format!("exit.{plugin}.{verb}")), "1").unwrap();
    }

    pub fn recover(&self, plugin: &str, verb: &str) {
        fs::remove_file(self.path(&format!("answer.{plugin}.{verb}"))).unwrap();
        fs::remove_file(self.path(&format!("exit.{plugin}.{verb}"))).unwrap();
    }

    /// All calls since the last time.
    pub fn told(&self) -> Vec<Told> {
        let mut paths: Vec<_> =
            fs::read_dir(self.path("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let parse = |path: &PathBuf| {
            let text = fs::read_to_string(path).unwrap();
            fs::remove_file(path).unwrap();
            let mut lines = text.lines().map(str::to_owned);
            let call = lines.next().unwrap();
            let configuration = serde_json::from_str(&lines.next().unwrap()).unwrap();
            Told { call, configuration, environment: lines.collect() }
        };
        paths.iter().map(parse).collect()
    }

    pub fn calls(&self) -> Vec<String> {
        self.told().into_iter().map(|told| told.call).collect()
    }
}

pub fn result(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "interfaces": [{"name": "eth0", "sandbox": "/x"}],
        "ips": [{"address": "10.9.0.5/24", "interface": 0}, {"address": "fd09::5/64"}],
    })
}

pub fn pod() -> Pod {
    let mut pod = Pod::new("s1").with_port(Protocol::Udp, 5353, 53).with_port(Protocol::Tcp, 0, 1);
    let request = &mut pod.request;
    request.annotations.insert("kubernetes.io/egress-bandwidth".into(), "10M".into());
    request.dns.servers.push("10.0.0.10".into());
    request.cgroup_parent = "/kubepods/pod1".into();
    pod
}

#[test]
fn a_chain_is_told_what_the_specification_says() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        let pod = pod();
        let addresses = fake.host.set_up(&pod);
        assert_eq!(addresses.ips.len(), 2);
        assert_eq!(addresses.ips[0].to_string(), "10.9.0.5");
        assert_eq!(addresses.network, "fake");
        let told = fake.told();
        assert_eq!(told[0].call, "ADD one");
        assert_eq!(told[1].call, "ADD two");
        assert_eq!(
            told[0].configuration,
            json!({"type": "one", "extra": {"kept": 1}, "name": "fake", "cniVersion": "1.0.0"})
        );
        let second = &told[1].configuration;
        assert_eq!(second["prevResult"], json!({"cniVersion": "1.0.0", "ips": []}));
        let expected = json!({
            "portMappings": [
                {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": ""},
            ],
            "bandwidth": {"egressRate": 10_000_000, "egressBurst": i32::MAX},
            "dns": {"servers": ["10.0.0.10"], "searches": [], "options": []},
            "cgroupPath": "/kubepods/pod1",
        });
        assert_eq!(second["runtimeConfig"], expected);
        assert_eq!(second.get("capabilities"), None);
        assert_eq!(
            told[1].variable("CNI_ARGS"),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-s1;\
             K8S_POD_INFRA_CONTAINER_ID=s1;K8S_POD_UID=uid-s1"
        );
        assert_eq!(told[1].variable("CNI_CONTAINERID"), "s1");
        assert_eq!(told[1].variable("CNI_IFNAME"), "eth0");
        assert_eq!(told[1].variable("CNI_NETNS"), pod.path().to_str().unwrap());
        assert_eq!(told[1].variable("CNI_PATH"), fake.path("bin").to_str().unwrap());
        let cached = fs::read(fake.path("cache/results/fake-s1-eth0")).unwrap();
        let cached: Value = serde_json::from_slice(&cached).unwrap();
        assert_eq!(cached["kind"], "cniCacheV1");
        assert_eq!(cached["containerId"], "s1");
        assert_eq!(cached["networkName"], "fake");
        assert_eq!(cached["cniArgs"][2], json!(["K8S_POD_NAME", "pod-s1"]));
        assert_eq!(cached["capabilityArgs"]["cgroupPath"], "/kubepods/pod1");
        assert_eq!(cached["result"], result("1.0.0"));
        let loopback = pod.inside(|| {
            fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap().contains("127.0.0.1")
        });
        assert!(loopback, "the loopback device is up");
    });
}

#[test]
fn a_pod_is_detached_from_what_it_was_attached_to() {
    on_a_host(|| {
        let mut fake = Fake::new("1.0.0");
        let pod = pod();
        fake.host.set_up(&pod);
        fake.told();
        fs::remove_dir_all(fake.path("net.d")).unwrap();
        fake.host.restart();
        let request = pod.request.clone();
        drop(pod);
        block_on(fake.host.network.teardown(&request, None)).unwrap();
        let told = fake.told();
        assert_eq!(told[0].call, "DEL two");
        assert_eq!(told[1].call, "DEL one");
        assert_eq!(told[0].configuration["prevResult"], result("1.0.0"));
        assert_eq!(told[0].variable("CNI_NETNS"), "");
        assert!(!fake.path("cache/results/fake-s1-eth0").exists());
        block_on(fake.host.network.teardown(&request, None)).unwrap();
        assert!(fake.calls().is_empty(), "a second time does nothing");
    });
}

#[test]
fn a_failure_is_told_and_undone() {
    on_a_host(|| {
        let mut fake = Fake::new("0.3.1");
        let error = json!({"cniVersion": "0.3.1", "code": 11, "msg": "no pool", "details": "full"});
        fake.fail("two", "ADD", &error);
        let pod = pod();
        let error = fake.host.try_set_up(&pod).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        let text = error.to_string();
        for part in ["two", "ADD", "no pool", "full", "11"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(fake.calls(), ["ADD one", "ADD two", "DEL two", "DEL one"]);

        // Undoing fails as well: the record stays until it works.
        fake.fail("one", "DEL", &json!("no error report"));
        fake.host.try_set_up(&pod).unwrap_err();
        fake.told();
        block_on(fake.host.network.teardown(&pod.request, None)).unwrap_err();
        assert_eq!(fake.calls(), ["DEL two", "DEL one"]);
        fake.recover("one", "DEL");
        // The next daemon's business, and no other's.
        block_on(fake.host.network.collect_garbage(&[])).unwrap();
        assert!(fake.calls().is_empty());
        fake.host.restart();
        block_on(fake.host.network.collect_garbage(&[])).unwrap();
        assert_eq!(fake.calls(), ["DEL two", "DEL one"]);
    });
}

#[test]
fn a_missing_and_a_hung_plugin_are_named() {
    on_a_host(|| {
        let mut fake = Fake::new("1.0.0");
        fake.host.options.cni_timeout = Duration::from_secs(1);
        fake.host.restart();
        fs::write(fake.path("sleep.one.ADD"), "").unwrap();
        let error = fake.host.try_set_up(&pod()).unwrap_err();
        assert!(matches!(&error, Error::PluginTimeout { .. }), "{error}");
        assert_eq!(error.kind(), Kind::DeadlineExceeded);

        fs::remove_file(fake.path("sleep.one.ADD")).unwrap();
        fs::remove_file(fake.path("bin/two")).unwrap();
        let error = fake.host.try_set_up(&pod()).unwrap_err().to_string();
        assert!(error.contains("two") && error.contains("/bin"), "{error}");
    });
}

#[test]
fn status_and_garbage_collection_of_version_1_1() {
    on_a_host(|| {
        let mut fake = Fake::new("1.1.0");
        fake.host.set_up(&pod());
        fake.told();
        block_on(fake.host.network.status()).unwrap();
        assert_eq!(fake.calls(), ["STATUS one", "STATUS two"]);
        fake.fail("two", "STATUS", &json!({"code": 50, "msg": "agent is down"}));
        let error = block_on(fake.host.network.status()).unwrap_err().to_string();
        assert!(error.contains("agent is down"), "{error}");
        fake.told();

        block_on(fake.host.network.collect_garbage(&["s1".to_owned()])).unwrap();
        let told = fake.told();
        assert_eq!(told[0].call, "GC one");
        let valid = json!([{"containerID": "s1", "ifname": "eth0"}]);
        assert_eq!(told[0].configuration["cni.dev/valid-attachments"], valid);
        fake.host.restart();
        block_on(fake.host.network.collect_garbage(&[])).unwrap();
        let told = fake.told();
        assert_eq!(told[0].call, "DEL two");
        assert_eq!(told[2].configuration["cni.dev/valid-attachments"], json!([]));
    });
}

#[test]
fn a_broken_configuration_is_not_replaced_by_the_built_in_network() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        fake.configure(&json!({"cniVersion": "7.0.0", "name": "x", "type": "one"}));
        let error = block_on(fake.host.network.status()).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("10-fake.conflist"), "{error}");
        assert!(fake.host.try_set_up(&pod()).is_err());
        fs::remove_file(fake.path("net.d/10-fake.conflist")).unwrap();
        assert_eq!(fake.host.set_up(&pod()).network, "builtin");
    });
}

#[test]
fn a_wrong_annotation_is_the_users_error() {
    on_a_host(|| {
        let fake = Fake::new("1.0.0");
        let mut pod = pod();
        let limit = "kubernetes.io/ingress-bandwidth";
        pod.request.annotations.insert(limit.to_owned(), "fast".to_owned());
        let error = fake.host.try_set_up(&pod).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().contains(limit), "{error}");
        assert!(fake.calls().is_empty());
    });
}
