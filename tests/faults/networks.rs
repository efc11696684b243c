//! CNI plugins that fail and hang.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use criquet::cri::v1;

use crate::common::{Node, answered, eventually, leaks, requests};

/// A plugin that hangs or fails at a command, or leaves processes behind, for as long as a file
/// of that name is there.
const PLUGIN: &str = r#"#!/bin/sh
here=$(dirname "$0")
cat > /dev/null
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'; exit 0
fi
if [ -e "$here/hang-$CNI_COMMAND" ]; then sleep 1000; fi
if [ -e "$here/leave-$CNI_COMMAND" ]; then
    sleep 1000 > /dev/null 2>&1 &
    setsid sleep 1000 > /dev/null 2>&1 &
fi
if [ -e "$here/fail-$CNI_COMMAND" ]; then
    echo '{"cniVersion":"1.0.0","code":11,"msg":"on purpose"}'; exit 1
fi
echo "$CNI_CONTAINERID" >> "$here/done-$CNI_COMMAND"
if [ "$CNI_COMMAND" = ADD ]; then
    echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.9/24"}]}'
fi
"#;

pub(super) async fn node(timeout: u32) -> Node {
    let mut node = Node::start().await;
    node.kill_daemon();
    let bin = node.path("cni-bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("fickle"), PLUGIN).unwrap();
    fs::set_permissions(bin.join("fickle"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(node.path("cni")).unwrap();
    let list = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"fickle"}]}"#;
    fs::write(node.path("cni/10-net.conflist"), list).unwrap();
    let config = fs::read_to_string(node.path("config.toml")).unwrap();
    let cni = format!("[cni]\nbin_dirs = [{bin:?}]\ntimeout = {timeout}");
    fs::write(node.path("config.toml"), config.replace("[cni]", &cni)).unwrap();
    node.start_daemon().await;
    node
}

pub(super) fn set(node: &Node, fault: &str) {
    fs::write(node.path("cni-bin").join(fault), "").unwrap();
}

pub(super) fn clear(node: &Node, fault: &str) {
    fs::remove_file(node.path("cni-bin").join(fault)).unwrap();
}

#[tokio::test]
async fn what_a_failed_addition_left_goes_as_soon_as_it_can() {
    requires_root!();
    let mut node = node(10).await;
    set(&node, "fail-ADD");
    set(&node, "fail-DEL");
    for _ in 0..3 {
        let config = requests::sandbox(&node, "pod");
        let error = node.run(config).await.unwrap_err();
        assert!(error.message().contains("on purpose"), "{error}");
    }
    eventually("no monitor stays for them", async || node.monitors().is_empty()).await;
    clear(&node, "fail-ADD");
    clear(&node, "fail-DEL");
    let pod = node.pod("pod").await;
    eventually("DEL follows for each of them", async || {
        let done = fs::read_to_string(node.path("cni-bin/done-DEL")).unwrap_or_default();
        done.lines().collect::<BTreeSet<_>>().len() >= 3
    })
    .await;
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_deletion_that_hangs_keeps_no_daemon_from_serving() {
    requires_root!();
    let mut node = node(600).await;
    let mut pods = Vec::new();
    for number in 0..4 {
        let pod = node.pod(&format!("pod{number}")).await;
        node.launch(&pod, requests::script("c", "sleep 1000")).await;
        pods.push(pod);
    }
    set(&node, "hang-DEL");
    node.kill_daemon();
    for pod in &pods {
        let monitor = node.monitor_of(pod);
        rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    }
    // With one deletion after the other it would not answer before the test gives up.
    node.start_daemon().await;
    eventually("the pods are known to have ended", async || {
        let pods = node.pods(v1::PodSandboxFilter::default()).await;
        let not_ready = i32::from(v1::PodSandboxState::SandboxNotready);
        pods.iter().all(|pod| pod.state == not_ready)
    })
    .await;
    let status = node.runtime.status(v1::StatusRequest::default());
    answered("Status", status).await.unwrap();
    clear(&node, "hang-DEL");
    node.end_plugins();
    for pod in &pods {
        answered("RemovePodSandbox", node.remove_pod(pod)).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_plugin_that_outlives_its_daemon_is_ended_by_the_next() {
    requires_root!();
    let mut node = node(600).await;
    // What a plugin leaves behind may be a service that its pods need.
    set(&node, "leave-ADD");
    let served = node.pod("served").await;
    clear(&node, "leave-ADD");
    eventually("the services run", async || node.runs_inside("sleep").len() == 2).await;
    let sleepers = |node: &Node| -> BTreeSet<i32> {
        node.runs_inside("sleep").iter().map(|pid| pid.as_raw_nonzero().get()).collect()
    };
    let services = sleepers(&node);
    set(&node, "hang-ADD");
    let config = requests::sandbox(&node, "pod");
    let mut runtime = node.runtime.clone();
    let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    let run = tokio::spawn(async move { runtime.run_pod_sandbox(request).await });
    eventually("it hangs", async || node.runs_inside("sleep").len() == 3).await;
    node.kill_daemon();
    assert!(run.await.unwrap().is_err());
    clear(&node, "hang-ADD");
    assert_eq!(node.runs_inside("sleep").len(), 3, "SIGKILL of the daemon does not end it");
    node.start_daemon().await;
    eventually("what it has done is undone", async || {
        let done = fs::read_to_string(node.path("cni-bin/done-DEL")).unwrap_or_default();
        !done.is_empty()
    })
    .await;
    eventually("it has ended", async || sleepers(&node).len() == 2).await;
    assert_eq!(sleepers(&node), services);
    node.end_plugins();
    node.remove_pod(&served).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_pod_whose_monitor_died_is_cleaned_up_once_its_network_lets_it() {
    requires_root!();
    let mut node = node(10).await;
    let pod = node.pod("pod").await;
    set(&node, "fail-DEL");
    rustix::process::kill_process(node.monitor_of(&pod), rustix::process::Signal::KILL).unwrap();
    eventually("it is not ready", async || {
        node.pod_status(&pod).await.unwrap().state
            == i32::from(v1::PodSandboxState::SandboxNotready)
    })
    .await;
    clear(&node, "fail-DEL");
    eventually("DEL is tried again without being asked for", async || {
        let done = fs::read_to_string(node.path("cni-bin/done-DEL")).unwrap_or_default();
        done.contains(&pod)
    })
    .await;
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_pod_whose_monitor_dies_while_it_is_made_does_not_become_ready() {
    requires_root!();
    let mut node = node(60).await;
    set(&node, "hang-ADD");
    let config = requests::sandbox(&node, "pod");
    let mut runtime = node.runtime.clone();
    let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    let run = tokio::spawn(async move { runtime.run_pod_sandbox(request).await });
    eventually("it waits for its network", async || {
        node.runs_inside("sleep").len() == 1 && node.monitors().len() == 1
    })
    .await;
    let monitor = rustix::process::Pid::from_raw(node.monitors()[0]).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    eventually("it is gone", async || node.monitors().is_empty()).await;
    clear(&node, "hang-ADD");
    node.end_plugins();
    assert!(answered("RunPodSandbox", run).await.unwrap().is_err());
    let pods = node.pods(v1::PodSandboxFilter::default()).await;
    assert!(pods.is_empty(), "{pods:?}");
    let again = node.pod("pod").await;
    node.remove_pod(&again).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn the_node_is_ready_as_soon_as_a_configuration_is() {
    requires_root!();
    let mut node = node(10).await;
    let file = node.path("cni/10-net.conflist");
    let whole = fs::read_to_string(&file).unwrap();
    // As it is while somebody writes it.
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let (ready, message) = network_condition(&mut node).await;
    assert!(!ready && message.contains("10-net.conflist"), "{message}");
    let config = requests::sandbox(&node, "pod");
    let error = node.run(config).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    // And as it should be written.
    fs::write(node.path("cni/.new"), &whole).unwrap();
    fs::rename(node.path("cni/.new"), &file).unwrap();
    assert_eq!(network_condition(&mut node).await, (true, String::new()));
    let pod = node.pod("pod").await;
    fs::remove_dir_all(node.path("cni")).unwrap();
    node.remove_pod(&pod).await.unwrap();
    let done = fs::read_to_string(node.path("cni-bin/done-DEL")).unwrap();
    assert!(done.contains(&pod), "by what was configured when it was added");
    leaks::assert_nothing_left(&node).await;
}

async fn network_condition(node: &mut Node) -> (bool, String) {
    let answer = node.runtime.status(v1::StatusRequest::default()).await.unwrap().into_inner();
    let conditions = answer.status.unwrap().conditions;
    let network = conditions.into_iter().find(|one| one.r#type == "NetworkReady").unwrap();
    (network.status, network.message)
}

#[tokio::test]
async fn a_pod_whose_plugin_hangs_holds_up_no_other() {
    requires_root!();
    let mut node = node(600).await;
    set(&node, "hang-ADD");
    let config = requests::sandbox(&node, "first");
    let mut runtime = node.runtime.clone();
    let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    let first = tokio::spawn(async move { runtime.run_pod_sandbox(request).await });
    eventually("it waits", async || node.runs_inside("sleep").len() == 1).await;
    clear(&node, "hang-ADD");
    let second = answered("RunPodSandbox", node.pod("second")).await;
    answered("RemovePodSandbox", node.remove_pod(&second)).await.unwrap();
    node.end_plugins();
    let first = answered("RunPodSandbox", first).await.unwrap().unwrap().into_inner();
    node.remove_pod(&first.pod_sandbox_id).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
