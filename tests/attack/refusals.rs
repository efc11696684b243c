//! System calls that a filter refuses, where the pod wants to know of them.

use criquet::cri::v1;

use crate::common::{Node, eventually, requests};

const CONFIG: &str = "warm_monitors = 0\n[containers]\n\
                      allowed_annotations = [\"io.kubernetes.cri-o.seccompNotifierAction\"]\n";

async fn pod(node: &mut Node, action: &str) -> String {
    let mut config = requests::sandbox(node, "p");
    let key = "io.kubernetes.cri-o.seccompNotifierAction".to_owned();
    config.annotations.insert(key, action.to_owned());
    node.run(config).await.unwrap()
}

fn with_profile(
    name: &str,
    script: &str,
    kind: v1::security_profile::ProfileType,
    path: &str,
) -> v1::ContainerConfig {
    let mut config = requests::script(name, script);
    requests::security(&mut config).seccomp =
        Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: path.to_owned() });
    config
}

fn default_profile(name: &str, script: &str) -> v1::ContainerConfig {
    with_profile(name, script, v1::security_profile::ProfileType::RuntimeDefault, "")
}

/// How often a call was refused, by the verbose status of a container.
async fn refused(node: &mut Node, id: &str, call: &str) -> u64 {
    let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let answer = node.runtime.container_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    info["refusedSystemCalls"][call].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn refused_calls_fail_as_ever_and_are_counted() {
    requires_root!();
    let mut node = Node::start_with(CONFIG).await;
    let pod = pod(&mut node, "log").await;
    let script = "mount -t tmpfs x /tmp; mount -t tmpfs x /tmp; echo $?; exec sleep 1000";
    let config = default_profile("c", script);
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    eventually("the calls are counted", async || refused(&mut node, &id, "mount").await == 2).await;
    let texts = crate::common::log_texts(&log, "stderr");
    assert!(texts.iter().all(|text| text.contains("permission denied")), "{texts:?}");
    // Of execs as well, and to a daemon that comes later.
    let response = node.exec(&id, "mount -t tmpfs x /tmp", 10).await.unwrap();
    assert_ne!(response.exit_code, 0);
    node.kill_daemon();
    node.start_daemon().await;
    eventually("they are known again", async || refused(&mut node, &id, "mount").await == 3).await;
    assert_eq!(node.output(&id, "echo here").await, "here", "it runs still");

    // Without the annotation nobody is told.
    let mut config = requests::sandbox(&node, "other");
    config.metadata.as_mut().unwrap().uid = "other".to_owned();
    let other = node.run(config).await.unwrap();
    let id = node.launch(&other, default_profile("d", script)).await;
    assert_eq!(node.output(&id, "mount -t tmpfs x /tmp || true").await, "");
    assert_eq!(refused(&mut node, &id, "mount").await, 0);
}

#[tokio::test]
async fn a_container_is_ended_for_refused_calls_where_its_pod_says_so() {
    requires_root!();
    let mut node = Node::start_with(CONFIG).await;
    let pod = pod(&mut node, "stop").await;
    let config = default_profile("c", "mount -t tmpfs x /tmp; exec sleep 1000");
    let id = node.launch(&pod, config).await;
    let status = node.end_of(&id).await;
    assert_eq!((status.reason.as_str(), status.exit_code), ("SeccompKilled", 137));
    assert!(status.message.contains("mount (1)"), "{}", status.message);
}

#[tokio::test]
async fn a_profile_can_ask_for_it_by_itself() {
    requires_root!();
    let mut node = Node::start().await;
    let profile = node.path("profile.json");
    let rule = r#"{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}"#;
    let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
    std::fs::write(&profile, json).unwrap();
    let mut config = requests::sandbox(&node, "shared");
    let shared = v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() };
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = Some(shared.clone());
    let pod = node.run(config).await.unwrap();
    for (name, options) in [("own", requests::own_pids()), ("shared", shared)] {
        let kind = v1::security_profile::ProfileType::Localhost;
        let script = "mkdir /tmp/x || echo no; exec sleep 1000";
        let mut config = with_profile(name, script, kind, &profile.display().to_string());
        requests::security(&mut config).namespace_options = Some(options);
        let log = node.container_log(&config);
        let id = node.launch(&pod, config).await;
        eventually("the call is counted", async || refused(&mut node, &id, "mkdir").await == 1)
            .await;
        eventually("it goes on", async || crate::common::log_texts(&log, "stdout") == ["no"]).await;
    }
}

#[tokio::test]
async fn an_action_that_makes_no_sense_is_refused() {
    requires_root!();
    let mut node = Node::start_with(CONFIG).await;
    let pod = pod(&mut node, "maybe").await;
    let error = node.create(&pod, default_profile("c", "true")).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("seccompNotifierAction"), "{}", error.message());
}
