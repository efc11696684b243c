//! What is reported of pods and containers: how they ended, what they have, what commands in
//! them wrote.

mod common;

use std::{fs, path::PathBuf};

use common::{Node, requests};
use criquet::cri::v1;
use prost::Message;
use serde_json::Value;
use tonic::Code;

/// What the kubelet and crictl take in one message.
const LONGEST: usize = 16 << 20;

#[tokio::test]
async fn an_end_for_want_of_memory_says_who_was_killed() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("memory").await;
    let hungry = |name: &str, script: &str| {
        let mut config = requests::script(name, script);
        requests::resources(&mut config).memory_limit_in_bytes = 20 << 20;
        config
    };
    // The shell survives its child, and ends well or not.
    for (name, script, code) in [
        ("well", "tail /dev/zero; exit 0", 0),
        ("not-well", "tail /dev/zero; exit 3", 3),
        ("passed-on", "tail /dev/zero; exit $?", 137),
    ] {
        let (status, _) = node.result_of(&pod, hungry(name, script)).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, "OOMKilled"), "{name}");
        let words = format!("1 process other than the main one, which ended with exit code {code}");
        assert!(status.message.contains(&words), "{}", status.message);
    }
    let mut main = hungry("main", "");
    main.command = ["tail", "/dev/zero"].map(str::to_owned).into();
    let (status, _) = node.result_of(&pod, main).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    assert!(status.message.contains("killed the main process:"), "{}", status.message);
    // A container that was killed by somebody else was not out of memory.
    let id = node.launch(&pod, hungry("stopped", "sleep 1000")).await;
    node.stop(&id, 0).await.unwrap();
    let status = node.end_of(&id).await;
    assert_eq!((status.reason.as_str(), status.message.as_str()), ("Error", ""));

    // It is still known when the end came while no daemon was there.
    let late = "sleep 3; tail /dev/zero; exit 0";
    let id = node.launch(&pod, hungry("late", late)).await;
    node.kill_daemon();
    let record = node.path("state/pods").join(&pod).join(format!("{id}.exit"));
    common::eventually("the monitor records the end", async || record.exists()).await;
    node.start_daemon().await;
    let status = node.end_of(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "OOMKilled"));
    assert!(status.message.contains("1 process other than the main one"), "{}", status.message);
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn what_a_command_writes_is_cut_to_what_clients_take() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("output").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let mut run = async |script: &str| {
        let request = v1::ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["sh", "-c", script].map(str::to_owned).into(),
            timeout: 60,
        };
        node.runtime.exec_sync(request).await.unwrap()
    };
    let both = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 7";
    let answer = run(both).await;
    let message = answer.get_ref();
    assert!(message.encoded_len() <= LONGEST, "{}", message.encoded_len());
    assert!(message.encoded_len() + 128 > LONGEST, "{}", message.encoded_len());
    assert_eq!(message.stdout.len(), message.stderr.len());
    assert_eq!(message.exit_code, 7);
    assert_eq!(answer.metadata().get("criquet-stdout-bytes").unwrap(), "20000000");
    assert_eq!(answer.metadata().get("criquet-stderr-bytes").unwrap(), "20000000");

    let answer = run("head -c 20000000 /dev/zero; echo whole >&2").await;
    assert_eq!(answer.get_ref().stderr, b"whole\n", "the short one is whole");
    assert!(answer.get_ref().encoded_len() <= LONGEST);
    assert!(answer.metadata().get("criquet-stderr-bytes").is_none());

    let answer = run("echo little").await;
    assert_eq!(answer.get_ref().stdout, b"little\n");
    assert!(answer.metadata().get("criquet-stdout-bytes").is_none());
    node.remove_pod(&pod).await.unwrap();
}

async fn sandbox_info(node: &mut Node, pod: &str) -> Value {
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.to_owned(), verbose: true };
    let answer = node.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
    serde_json::from_str(&answer.info["info"]).unwrap()
}

/// The limit of memory of a cgroup; none where it has none.
fn memory_limit(path: &str) -> Option<u64> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let path = path.trim_start_matches('/');
    let v2 = root.join(path).join("memory.max");
    let v1 = root.join("memory").join(path).join("memory.limit_in_bytes");
    let text = fs::read_to_string(v2).or_else(|_| fs::read_to_string(v1)).unwrap();
    text.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

async fn update(
    node: &mut Node,
    pod: &str,
    overhead: Option<v1::LinuxContainerResources>,
    resources: Option<v1::LinuxContainerResources>,
) -> Result<(), tonic::Status> {
    let pod_sandbox_id = pod.to_owned();
    let request = v1::UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources };
    node.runtime.update_pod_sandbox_resources(request).await.map(drop)
}

#[tokio::test]
async fn resources_of_a_pod_are_kept_and_applied_whole_or_not_at_all() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("resources").await;
    let cgroup = format!("/{}/{pod}", node.cgroup);
    let memory = |limit: i64| {
        Some(v1::LinuxContainerResources { memory_limit_in_bytes: limit, ..Default::default() })
    };
    update(&mut node, &pod, memory(16 << 20), memory(64 << 20)).await.unwrap();
    assert_eq!(memory_limit(&cgroup), Some(80 << 20), "both together");
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    // What is not named stays.
    update(&mut node, &pod, None, memory(128 << 20)).await.unwrap();
    assert_eq!(memory_limit(&cgroup), Some(144 << 20));

    // Half of this is right; nothing of it is done.
    let mut half = memory(256 << 20).unwrap();
    half.cpu_period = 7;
    half.cpu_quota = 5;
    let error = update(&mut node, &pod, None, Some(half)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let mut negative = memory(256 << 20).unwrap();
    negative.cpu_shares = -1;
    let error = update(&mut node, &pod, Some(negative), None).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert_eq!(memory_limit(&cgroup), Some(144 << 20));

    node.kill_daemon();
    node.start_daemon().await;
    let linux = &sandbox_info(&mut node, &pod).await["config"]["linux"];
    assert_eq!(linux["overhead"]["memory_limit_in_bytes"], 16 << 20, "{linux}");
    assert_eq!(linux["resources"]["memory_limit_in_bytes"], 128 << 20, "{linux}");
    assert_eq!(linux["resources"]["cpu_quota"], Value::Null, "{linux}");

    // A cgroup of somebody else's is left to them.
    let mut config = requests::sandbox(&node, "of-kubelet");
    let parent = format!("/{}/of-kubelet", node.cgroup);
    config.linux.get_or_insert_default().cgroup_parent = parent.clone();
    let other = node.run(config).await.unwrap();
    node.launch(&other, requests::script("c", "sleep 1000")).await;
    update(&mut node, &other, None, memory(64 << 20)).await.unwrap();
    assert_eq!(memory_limit(&parent), None);

    let error = update(&mut node, "no-such-pod", None, None).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    node.stop(&id, 0).await.unwrap();
    // One that has ended has no cgroup, and needs none.
    node.stop_pod(&pod).await.unwrap();
    update(&mut node, &pod, None, memory(64 << 20)).await.unwrap();
    for pod in [pod, other] {
        node.remove_pod(&pod).await.unwrap();
    }
    // It is the kubelet's to remove.
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for directory in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let _ = fs::remove_dir(directory.join(parent.trim_start_matches('/')));
    }
    common::leaks::assert_nothing_left(&node).await;
}

async fn container_info(node: &mut Node, id: &str) -> Value {
    let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let answer = node.runtime.container_status(request).await.unwrap().into_inner();
    serde_json::from_str(&answer.info["info"]).unwrap()
}

#[tokio::test]
async fn verbose_statuses_have_what_tools_read() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("verbose").await;
    let mut config = requests::script("c", "sleep 1000");
    let env = v1::KeyValue { key: "KEY".to_owned(), value: b"value".to_vec() };
    config.envs = vec![env];
    requests::resources(&mut config).memory_limit_in_bytes = 64 << 20;
    let id = node.launch(&pod, config).await;

    let info = container_info(&mut node, &id).await;
    assert_eq!((&info["sandboxID"], &info["removing"]), (&pod.clone().into(), &false.into()));
    assert_eq!(info["snapshotKey"], id);
    let pid = info["pid"].as_u64().unwrap();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(environment.windows(9).any(|window| window == b"KEY=value"), "it is that process");
    let config = &info["config"];
    assert_eq!(config["metadata"]["name"], "c");
    assert_eq!(config["command"][0], "sh");
    assert_eq!(config["envs"][0]["key"], "KEY");
    assert_eq!(config["linux"]["resources"]["memory_limit_in_bytes"], 64 << 20);
    assert_eq!(config["linux"]["security_context"]["namespace_options"]["pid"], 1);
    let spec = &info["runtimeSpec"];
    assert_eq!(spec["process"]["args"][0], "sh");
    assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 64 << 20);

    let info = sandbox_info(&mut node, &pod).await;
    assert_eq!(info["processStatus"], "running");
    let monitor = node.monitor_of(&pod).as_raw_nonzero().get();
    assert_eq!(info["pid"], monitor);
    assert_eq!(info["config"]["metadata"]["uid"], "uid-verbose");
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().unwrap();
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network").unwrap();
    assert!(PathBuf::from(network["path"].as_str().unwrap()).exists(), "{network}");
    let address = node.pod_status(&pod).await.unwrap().network.unwrap().ip;
    assert_eq!(info["cniResult"]["Interfaces"]["eth0"]["IPConfigs"][0]["IP"], address);

    let request = v1::StatusRequest { verbose: true };
    let info = node.runtime.status(request).await.unwrap().into_inner().info;
    let value = |key: &str| serde_json::from_str::<Value>(&info[key]).unwrap();
    assert_eq!(value("config")["root"], node.path("root").display().to_string());
    assert_eq!(value("versions")["criquet"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value("cniconfig")["PluginConfDir"], node.path("cni").display().to_string());
    assert_eq!(info["lastCNILoadStatus"], "OK", "the built-in network takes its place");

    node.stop(&id, 0).await.unwrap();
    node.end_of(&id).await;
    let info = container_info(&mut node, &id).await;
    assert_eq!((&info["pid"], &info["config"]["metadata"]["name"]), (&0.into(), &"c".into()));
    node.stop_pod(&pod).await.unwrap();
    assert_eq!(sandbox_info(&mut node, &pod).await["processStatus"], "deleted");
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn the_configuration_of_cni_is_told_and_why_it_cannot_be_read() {
    requires_root!();
    let mut node = Node::start().await;
    let directory = node.path("cni");
    fs::create_dir_all(&directory).unwrap();
    let info = async |node: &mut Node| {
        let request = v1::StatusRequest { verbose: true };
        node.runtime.status(request).await.unwrap().into_inner().info
    };
    let list = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","bridge":"b0"}]}"#;
    fs::write(directory.join("10.conflist"), list).unwrap();
    let told = info(&mut node).await;
    let config: Value = serde_json::from_str(&told["cniconfig"]).unwrap();
    let network = &config["Networks"][0];
    assert_eq!((&network["IFName"], &network["Config"]["Name"]), (&"eth0".into(), &"n".into()));
    assert_eq!(network["Config"]["CNIVersion"], "1.0.0");
    assert_eq!(network["Config"]["Plugins"][0]["Network"]["bridge"], "b0");
    assert_eq!(told["lastCNILoadStatus"], "OK");

    fs::write(directory.join("10.conflist"), "{").unwrap();
    let told = info(&mut node).await;
    assert!(told["lastCNILoadStatus"].contains("10.conflist"), "{}", told["lastCNILoadStatus"]);
    let config: Value = serde_json::from_str(&told["cniconfig"]).unwrap();
    assert_eq!(config["PluginConfDir"], directory.display().to_string());
}
