//! Volumes that images declare.

mod common;

use common::{Node, image, leaks, log_texts, requests};
use criquet::cri::v1;
use serde_json::json;

/// An image that declares volumes, some of which it has content for.
async fn node(more: &str) -> Node {
    let mut node = Node::start_with(&format!("warm_monitors = 0\n{more}")).await;
    node.kill_daemon();
    let add = |tar: &mut image::Tar| {
        tar.add_owned("data/", b'5', 0o750, &[], "", 1000);
        tar.add_owned("data/file", b'0', 0o640, b"of the image\n", "", 1000);
        tar.add_owned("data/same", b'1', 0o640, &[], "data/file", 1000);
        tar.add("data/link", b'2', 0o777, &[], "/etc/passwd");
        tar.add("outside", b'2', 0o777, &[], "../../../../../../etc");
        tar.add("run/", b'5', 0o755, &[], "");
        tar.add("var/", b'5', 0o755, &[], "");
        tar.add("var/run", b'2', 0o777, &[], "/run");
    };
    let volumes = json!({
        "Volumes": { "/data": {}, "/absent/place": {}, "/var/run/x": {}, "/outside/y": {},
            "/bin/busybox": {}, "/sys/fs/cgroup": {}, "/": {}, "/data/inner": {} }
    });
    image::import_special(node.directory.path(), "volumes", add, volumes);
    node.start_daemon().await;
    node
}

fn script(name: &str, script: &str) -> v1::ContainerConfig {
    let image = v1::ImageSpec { image: "volumes:1".to_owned(), ..Default::default() };
    v1::ContainerConfig { image: Some(image), ..requests::script(name, script) }
}

fn read_only(mut config: v1::ContainerConfig) -> v1::ContainerConfig {
    requests::security(&mut config).readonly_rootfs = true;
    config
}

#[tokio::test]
async fn a_volume_has_the_images_content_and_can_be_written() {
    requires_root!();
    let mut node = node("").await;
    let pod = node.pod("p").await;
    let id = node.launch(&pod, read_only(script("c", "sleep 1000"))).await;
    let read_only_root = node.exec(&id, "touch /etc/x", 30).await.unwrap();
    assert_ne!(read_only_root.exit_code, 0);
    assert_eq!(node.output(&id, "stat -c '%u %g %a' /data").await, "1000 1000 750");
    assert_eq!(node.output(&id, "stat -c '%u %g %a %h' /data/file").await, "1000 1000 640 2");
    assert_eq!(node.output(&id, "cat /data/same; ls -l /data/link").await.lines().count(), 2);
    for place in ["/data", "/absent/place", "/run/x", "/etc/y"] {
        assert_eq!(node.output(&id, &format!("echo w > {place}/new; cat {place}/new")).await, "w");
    }
    // A file, the root and what others are mounted at are left as they are.
    assert_eq!(node.output(&id, "test -f /bin/busybox; echo $?").await, "0");
    let mounts = node.output(&id, "sed 's/^[^ ]* \\([^ ]*\\) .*/\\1/' /proc/self/mounts").await;
    let mut mounts: Vec<&str> = mounts.lines().filter(|at| !at[1..].contains('/')).collect();
    mounts.sort_unstable();
    assert_eq!(mounts, ["/", "/data", "/dev", "/proc", "/sys"]);
    // It is not that of the image, nor of another container.
    let other = node.launch(&pod, script("other", "sleep 1000")).await;
    assert_eq!(node.output(&other, "ls /data").await, "file\nlink\nsame");
    assert_eq!(node.output(&other, "ls /etc/y").await, "");
    assert!(!std::path::Path::new("/etc/y").exists());
    node.remove(&id).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn what_a_pod_mounts_goes_before_it() {
    requires_root!();
    let mut node = node("").await;
    let pod = node.pod("p").await;
    std::fs::create_dir_all(node.path("host/inner")).unwrap();
    std::fs::write(node.path("host/mine"), "").unwrap();
    let mount = |path: &str| v1::Mount {
        container_path: path.to_owned(),
        host_path: node.path("host").display().to_string(),
        ..Default::default()
    };
    let (at, above) = (mount("/data/."), mount("/absent"));
    let config = v1::ContainerConfig { mounts: vec![at, above], ..script("c", "sleep 1000") };
    let id = node.launch(&pod, config).await;
    assert_eq!(node.output(&id, "ls /data").await, "inner\nmine");
    assert_eq!(node.output(&id, "ls /absent").await, "inner\nmine");
    // Nothing is made in what the pod has mounted.
    assert!(!node.path("host/place").exists());
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn volumes_count_as_written_and_outlive_the_daemon() {
    requires_root!();
    let mut node = node("").await;
    let pod = node.pod("p").await;
    let config = script("c", "dd if=/dev/zero of=/data/big bs=1M count=8; sleep 1000");
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    common::eventually("it is written", async || log_texts(&log, "stderr").len() >= 2).await;
    let request = || v1::ContainerStatsRequest { container_id: id.clone() };
    common::eventually("it counts", async || {
        let mut runtime = node.runtime.clone();
        let stats = runtime.container_stats(request()).await.unwrap().into_inner().stats.unwrap();
        let used = stats.writable_layer.and_then(|layer| layer.used_bytes);
        used.is_some_and(|bytes| bytes.value >= 8 << 20)
    })
    .await;
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.output(&id, "cat /data/file").await, "of the image");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn an_administrator_can_have_directories_alone_or_nothing() {
    requires_root!();
    for (value, expected) in [("mkdir", "1 yes"), ("ignore", "1 no")] {
        let mut node = node(&format!("[containers]\nimage_volumes = {value:?}")).await;
        let pod = node.pod("p").await;
        let look = "echo $(grep -cE ' (/|/data) ' /proc/self/mounts) \
                    $(test -d /absent/place && echo yes || echo no)";
        let (status, words) = node.result_of(&pod, script("c", look)).await;
        assert_eq!((status.exit_code, words.as_str()), (0, expected), "{value}");
        node.remove_pod(&pod).await.unwrap();
        leaks::assert_nothing_left(&node).await;
    }
}

#[tokio::test]
async fn volumes_belong_to_the_users_of_a_pod() {
    requires_root!();
    let mut node = node("").await;
    let status = node.runtime.status(v1::StatusRequest::default()).await.unwrap().into_inner();
    let features = status.runtime_handlers.first().and_then(|handler| handler.features);
    if !features.is_some_and(|features| features.user_namespaces) {
        return eprintln!("SKIPPED: this machine has no user namespaces for pods");
    }
    let ids = || vec![v1::IdMapping { host_id: 300_000, container_id: 0, length: 65_536 }];
    let options = Some(v1::NamespaceOption {
        pid: v1::NamespaceMode::Container.into(),
        userns_options: Some(v1::UserNamespace {
            mode: v1::NamespaceMode::Pod.into(),
            uids: ids(),
            gids: ids(),
        }),
        ..Default::default()
    });
    let mut config = requests::sandbox(&node, "p");
    let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    security.namespace_options = options.clone();
    let pod = node.run(config).await.unwrap();
    let mut config = read_only(script("c", "sleep 1000"));
    requests::security(&mut config).namespace_options = options;
    let id = node.launch(&pod, config).await;
    assert_eq!(node.output(&id, "stat -c '%u %g %a' /data").await, "1000 1000 750");
    assert_eq!(node.output(&id, "stat -c '%u %g %a %h' /data/file").await, "1000 1000 640 2");
    assert_eq!(node.output(&id, "echo w > /absent/place/x; cat /absent/place/x").await, "w");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
