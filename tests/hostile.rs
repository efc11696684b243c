//! Images and containers that mean no good, and those that are only odd.

mod common;

use std::fs;

use common::{Node, eventually, image::Instead, leaks, requests};
use criquet::cri::v1;

fn from(image: &str, name: &str, script: &str) -> v1::ContainerConfig {
    let mut config = requests::script(name, script);
    config.image.get_or_insert_default().image = format!("{image}:1");
    config
}

/// Starts a container of each image that writes to `/etc/hosts` and makes files all over.
async fn try_all(node: &mut Node, pod: &str, images: &[(&str, &[(&str, Instead)])]) -> Vec<String> {
    let mut results = Vec::new();
    for (image, _) in images {
        let script = "echo mine >> /etc/hosts; echo mine > /etc/resolv.conf; echo mine > /dev/mine;
            grep -q mine /etc/hosts && echo 1; ls -d /var/run/secrets; pwd; touch mine";
        let mut config = from(image, image, script);
        config.mounts.push(v1::Mount {
            container_path: "/var/run/secrets".to_owned(),
            host_path: node.path("secret").display().to_string(),
            ..Default::default()
        });
        let log = node.container_log(&config);
        let id = node.create(pod, config).await.unwrap();
        results.push(match node.start_container(&id).await {
            Ok(()) => {
                node.end_of(&id).await;
                common::log_texts(&log, "stdout").join(" ")
            }
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::InvalidArgument, "{image}: {status}");
                status.message().to_owned()
            }
        });
    }
    results
}

#[tokio::test]
async fn links_of_an_image_lead_nowhere_else() {
    requires_root!();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "host\n").unwrap();
    let target: &'static str = outside.path().join("file").display().to_string().leak();
    let directory: &'static str = outside.path().display().to_string().leak();
    let far: &'static str = format!("../../../../../..{target}").leak();
    let absolute = [("etc/hosts", Instead::Link(target)), ("etc/resolv.conf", Instead::Link(far))];
    let dangling = [
        ("etc/resolv.conf", Instead::Link("../run/systemd/resolve/stub-resolv.conf")),
        ("etc/hosts", Instead::Link("/nowhere/hosts")),
        ("var", Instead::Directory),
        ("var/run", Instead::Link("/run")),
    ];
    let images: &[(&str, &[(&str, Instead)])] = &[
        ("absolute", &absolute),
        ("dangling", &dangling),
        ("loop", &[("etc/hosts", Instead::Link("/etc/hosts"))]),
        ("directory", &[("etc/hosts", Instead::Directory)]),
        ("dev", &[("dev", Instead::Link(directory))]),
        ("proc", &[("proc", Instead::Link(directory))]),
        ("sys", &[("sys", Instead::Link(directory))]),
        ("file", &[("proc", Instead::File)]),
        ("magic", &[("home", Instead::Link("/proc/self/fd/3"))]),
        ("home", &[("home", Instead::Link(directory))]),
    ];
    let mut node = Node::start().await.with_images(images).await;
    let pod = node.pod("links").await;
    let results = try_all(&mut node, &pod, images).await;
    let home = format!("1 /var/run/secrets {directory}");
    for ((image, _), (result, expected)) in images.iter().zip(results.iter().zip([
        "1 /var/run/secrets /home",
        "1 /var/run/secrets /home",
        "/etc/hosts",
        "/etc/hosts",
        "/dev",
        "/proc",
        "/sys",
        "/proc",
        "/home",
        &home,
    ])) {
        assert!(result.contains(expected), "{image}: {expected:?} is not in {result:?}");
    }
    assert_eq!(fs::read_to_string(target).unwrap(), "host\n");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

/// Options of a pod whose containers share their processes, or of such a container.
fn shared_pids() -> Option<v1::NamespaceOption> {
    Some(v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() })
}

async fn pod_with_shared_pids(node: &mut Node, name: &str) -> String {
    let mut config = requests::sandbox(node, name);
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = shared_pids();
    node.run(config).await.unwrap()
}

#[tokio::test]
async fn the_init_of_a_pod_has_no_rights_and_ends_with_its_monitor() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = pod_with_shared_pids(&mut node, "init").await;
    let show = "grep -E 'Cap|NoNew' /proc/1/status; ls /proc/1/root/ 2>&1";
    let mut config = requests::script("c", show);
    requests::security(&mut config).namespace_options = shared_pids();
    let (_, text) = node.result_of(&pod, config).await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(text.contains(&format!("{set}:\t0000000000000000")), "{text}");
    }
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");

    let monitor = node.monitors()[0];
    let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    let init = children.trim().to_owned();
    let name = || fs::read_to_string(format!("/proc/{init}/comm")).unwrap_or_default();
    assert_eq!(name().trim(), "criquet-monitor");
    let monitor = rustix::process::Pid::from_raw(monitor).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    eventually("the init has ended", async || name().is_empty()).await;
    let ready = i32::from(v1::PodSandboxState::SandboxReady);
    eventually("the pod has ended", async || node.pod_status(&pod).await.unwrap().state != ready)
        .await;
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_pod_whose_init_is_gone_is_not_ready() {
    requires_root!();
    let mut node = Node::start().await;
    for while_it_is_away in [false, true] {
        let pod = pod_with_shared_pids(&mut node, &format!("gone-{while_it_is_away}")).await;
        let monitor = node.monitors()[0];
        let children = format!("/proc/{monitor}/task/{monitor}/children");
        let children = fs::read_to_string(children).unwrap();
        let init = rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        let mut config = requests::script("c", "sleep 1000");
        requests::security(&mut config).namespace_options = shared_pids();
        let id = node.launch(&pod, config.clone()).await;
        if while_it_is_away {
            node.kill_daemon();
        }
        rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
        eventually("it is reaped", async || rustix::process::test_kill_process(init).is_err())
            .await;
        if while_it_is_away {
            node.start_daemon().await;
        }
        assert_eq!(node.end_of(&id).await.exit_code, 137);
        let ready = i32::from(v1::PodSandboxState::SandboxReady);
        eventually("it is told", async || node.pod_status(&pod).await.unwrap().state != ready)
            .await;
        config.metadata = Some(v1::ContainerMetadata { name: "d".to_owned(), attempt: 0 });
        let error = node.create(&pod, config).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
        node.stop_pod(&pod).await.unwrap();
        node.remove_pod(&pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_user_can_open_its_streams_by_name() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("streams").await;
    for tty in [false, true] {
        let name = if tty { "terminal" } else { "pipes" };
        let mut config =
            requests::script(name, "echo out > /dev/stdout && echo err > /dev/stderr; sleep 1000");
        requests::security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
        config.tty = tty;
        let log = node.container_log(&config);
        let id = node.launch(&pod, config).await;
        let stream = if tty { "stdout" } else { "stderr" };
        eventually("it writes", async || {
            common::log_texts(&log, stream).iter().any(|line| line.trim() == "err")
        })
        .await;
        assert_eq!(node.output(&id, "echo out > /dev/stdout").await, "out");
    }
}

#[tokio::test]
async fn a_log_has_the_rate_that_the_configuration_says() {
    requires_root!();
    let limits = "warm_monitors = 0\n[containers]\nlog_rate = 1000\nlog_burst = \"64KiB\"\n";
    let mut node = Node::start_with(limits).await;
    let pod = node.pod("p").await;
    let config = requests::script("flood", "seq 100000 199999; seq 5 >&2");
    let log = node.container_log(&config);
    let (status, text) = node.result_of(&pod, config).await;
    assert_eq!(status.exit_code, 0, "nobody holds it up");
    let size = std::fs::metadata(&log).unwrap().len();
    assert!((32 << 10..80 << 10).contains(&size), "{size}");
    assert!(text.starts_with("100000\n100001\n"), "{text}");
    assert!(text.contains("[criquet: lines are missing from here on"), "{text}");
    let errors = common::log_texts(&log, "stderr").join("\n");
    assert!((text + &errors).contains("bytes are missing here]"), "{errors}");
}
