//! What containers get when they ask for more: devices, propagation, privileges, users.

mod common;

use std::fs;

use common::{Node, image::Instead, leaks, log_texts, requests};
use criquet::cri::v1;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

/// A shared mount for volumes, which goes with the test.
struct Shared(std::path::PathBuf);

impl Shared {
    fn at(path: std::path::PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        mount_bind(&path, &path).unwrap();
        mount_change(&path, MountPropagationFlags::PRIVATE).unwrap();
        mount_change(&path, MountPropagationFlags::SHARED).unwrap();
        Self(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for name in ["host", "inside", ""] {
            let _ = unmount(self.0.join(name), UnmountFlags::DETACH);
        }
    }
}

fn privileged_pod(node: &Node, name: &str) -> v1::PodSandboxConfig {
    let mut config = requests::sandbox(node, name);
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
    config
}

#[tokio::test]
async fn privileged_containers_may_do_all_that_the_daemon_may() {
    requires_root!();
    let mut node = Node::start().await;
    let config = privileged_pod(&node, "privileged");
    let pod = node.run(config).await.unwrap();
    let mut config = requests::script(
        "c",
        "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status
         mount -t tmpfs none /tmp && touch /tmp/x && echo mounted; umount /tmp
         touch /proc/sys/net/x 2>&1 | grep -q 'Read-only' || echo proc-writable
         mkdir /sys/fs/cgroup/pids/x 2>/dev/null || mkdir /sys/fs/cgroup/x && echo cgroup-writable
         rmdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x 2>/dev/null
         mknod /root/null c 1 3 && echo x > /root/null && echo device
         test -c /dev/kmsg && echo kmsg; test -d /dev/pts && test -d /dev/shm && echo own",
    );
    requests::security(&mut config).privileged = true;
    let (_, text) = node.result_of(&pod, config).await;
    let own = fs::read_to_string(format!("/proc/{}/status", node.daemon_pid())).unwrap();
    let own = own.lines().find(|line| line.starts_with("CapPrm")).unwrap();
    assert!(text.contains(&own.replace("CapPrm", "CapEff")), "{own} {text}");
    for line in ["mounted", "proc-writable", "cgroup-writable", "device", "own"] {
        assert!(text.lines().any(|other| other == line), "{line:?} is not in {text}");
    }
    assert!(text.contains("Seccomp:\t0") && text.contains("NoNewPrivs:\t0"), "{text}");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn devices_are_as_they_are_asked_for() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("devices").await;
    let mut config = requests::script(
        "c",
        "stat -c %t:%T /dev/mine /elsewhere/zero; head -c 2 /elsewhere/zero | wc -c
         (echo x > /dev/mine) 2>/dev/null || echo read-only",
    );
    let device = |container_path: &str, host_path: &str, permissions: &str| v1::Device {
        container_path: container_path.to_owned(),
        host_path: host_path.to_owned(),
        permissions: permissions.to_owned(),
    };
    config.devices =
        vec![device("/dev/mine", "/dev/kmsg", "r"), device("/elsewhere/zero", "/dev/zero", "rwm")];
    let (_, text) = node.result_of(&pod, config).await;
    assert_eq!(text, "1:b\n1:5\n2\nread-only");
}

#[tokio::test]
async fn a_dev_of_the_host_is_not_written_to() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("dev").await;
    let host = node.path("dev");
    fs::create_dir(&host).unwrap();
    mount("tmpfs", &host, "tmpfs", MountFlags::empty(), None).unwrap();
    let mut config = requests::script("c", "ls /dev | wc -l");
    config.mounts.push(v1::Mount {
        container_path: "/dev".to_owned(),
        host_path: host.display().to_string(),
        ..Default::default()
    });
    config.devices.push(v1::Device {
        container_path: "/dev/mine".to_owned(),
        host_path: "/dev/zero".to_owned(),
        permissions: "rwm".to_owned(),
    });
    // Nothing can be masked without a null device; that is not what this is about.
    requests::security(&mut config).masked_paths = vec!["/nowhere".to_owned()];
    let result = node.create(&pod, config).await;
    let id = result.unwrap();
    let _ = node.start_container(&id).await;
    let names: Vec<_> = fs::read_dir(&host).unwrap().map(|e| e.unwrap().file_name()).collect();
    node.remove(&id).await.unwrap();
    unmount(&host, UnmountFlags::DETACH).unwrap();
    assert!(!names.iter().any(|name| name == "mine" || name == "null"), "{names:?}");
}

#[tokio::test]
async fn mounts_travel_as_far_as_is_asked_for() {
    requires_root!();
    let mut node = Node::start().await;
    let config = privileged_pod(&node, "propagation");
    let pod = node.run(config).await.unwrap();
    let shared = Shared::at(node.path("shared"));
    fs::create_dir(shared.0.join("host")).unwrap();
    fs::create_dir(shared.0.join("inside")).unwrap();
    let mut ids = Vec::new();
    for (name, propagation) in [
        ("private", v1::MountPropagation::PropagationPrivate),
        ("slave", v1::MountPropagation::PropagationHostToContainer),
        ("both", v1::MountPropagation::PropagationBidirectional),
    ] {
        let mut config = requests::script(name, "sleep 1000");
        requests::security(&mut config).privileged = true;
        config.mounts.push(v1::Mount {
            container_path: "/volume".to_owned(),
            host_path: shared.0.display().to_string(),
            propagation: propagation.into(),
            ..Default::default()
        });
        ids.push(node.launch(&pod, config).await);
    }
    let host = shared.0.join("host");
    mount("tmpfs", &host, "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(host.join("file"), "").unwrap();
    let seen = "test -e /volume/host/file && echo yes || echo no";
    for (id, expected) in ids.iter().zip(["no", "yes", "yes"]) {
        assert_eq!(node.output(id, seen).await, expected);
    }
    let inside = shared.0.join("inside/file");
    for (id, expected) in ids.iter().zip([false, false, true]) {
        node.output(id, "mount -t tmpfs none /volume/inside && touch /volume/inside/file").await;
        assert_eq!(inside.exists(), expected);
        node.output(id, "umount /volume/inside").await;
    }
    node.remove_pod(&pod).await.unwrap();
    drop(shared);
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn an_image_decides_what_nobody_else_does() {
    requires_root!();
    let images: &[(&str, &[(&str, Instead)])] = &[("other", &[("home/mark", Instead::File)])];
    let mut node = Node::start().await.with_images(images).await;
    let pod = node.pod("image").await;
    let mut config = requests::script("c", "");
    config.image.get_or_insert_default().image = "other:1".to_owned();
    config.command.clear();
    config.args = ["sh", "-c", "pwd; ls; id -u; echo $FROM_IMAGE"].map(str::to_owned).into();
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    node.end_of(&id).await;
    assert_eq!(log_texts(&log, "stdout"), ["/home", "mark", "user", "0", "yes"]);
}
