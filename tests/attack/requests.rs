//! Requests that ask for more than they seem to.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::common::{Node, requests};
use criquet::cri::v1;
use tonic::Code;

#[tokio::test]
async fn what_would_be_more_is_refused() {
    requires_root!();
    let mut node = Node::start().await;
    let change = |f: &dyn Fn(&mut v1::PodSandboxConfig)| {
        let mut config = requests::sandbox(&node, "more");
        f(&mut config);
        config
    };
    let pods = [
        change(&|c| c.hostname = "a/../../b".to_owned()),
        change(&|c| c.hostname = "a\u{202e}b".to_owned()),
        change(&|c| c.linux.get_or_insert_default().cgroup_parent = "//".to_owned()),
        change(&|c| c.metadata.as_mut().unwrap().name = "a;K8S_POD_NAME=b".to_owned()),
        change(&|c| {
            let sysctls = &mut c.linux.get_or_insert_default().sysctls;
            sysctls.insert("net.".to_owned(), "1".to_owned());
        }),
    ];
    for config in pods {
        let error = node.run(config).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    let pod = node.pod("plain").await;
    let change = |f: &dyn Fn(&mut v1::ContainerConfig)| {
        let mut config = requests::script("c", "true");
        f(&mut config);
        config
    };
    let options = |c: &mut v1::ContainerConfig, f: &dyn Fn(&mut v1::NamespaceOption)| {
        f(requests::security(c).namespace_options.get_or_insert_default());
    };
    let containers = [
        change(&|c| options(c, &|o| o.pid = v1::NamespaceMode::Node.into())),
        change(&|c| options(c, &|o| o.ipc = v1::NamespaceMode::Target.into())),
        change(&|c| requests::resources(c).cpuset_cpus = "0\n1".to_owned()),
        change(&|c| requests::security(c).supplemental_groups = (1..=65_537).collect()),
        change(&|c| {
            c.mounts = vec![v1::Mount {
                container_path: "/x/../proc/sys".to_owned(),
                host_path: "/tmp".to_owned(),
                ..Default::default()
            }];
        }),
    ];
    for config in containers {
        let error = node.create(&pod, config).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
}

/// A link of the image must not make a place in procfs of one that is not.
#[tokio::test]
async fn nothing_is_mounted_into_proc() {
    requires_root!();
    let link = ("home", crate::common::image::Instead::Link("/proc"));
    let mut node = Node::start().await.with_images(&[("link", &[link])]).await;
    let pod = node.pod("proc").await;
    for (name, image, place) in
        [("linked", "link:1", "/home/sys"), ("whole", crate::common::image::NAME, "/proc")]
    {
        let mut config = requests::script(name, "true");
        config.image.get_or_insert_default().image = image.to_owned();
        config.mounts = vec![v1::Mount {
            container_path: place.to_owned(),
            host_path: node.path("logs").display().to_string(),
            ..Default::default()
        }];
        let id = node.create(&pod, config).await.unwrap();
        let error = node.start_container(&id).await.unwrap_err();
        assert!(error.message().contains("/proc"), "{error}");
    }
    // The host's own is what monitoring agents ask for.
    let mut config = requests::script("host", "ls -d /proc/1 /elsewhere/1");
    config.mounts = vec![v1::Mount {
        container_path: "/elsewhere".to_owned(),
        host_path: "/proc".to_owned(),
        ..Default::default()
    }];
    assert_eq!(node.result_of(&pod, config).await.1, "/elsewhere/1\n/proc/1");
}

#[tokio::test]
async fn sockets_and_memory_are_the_daemons_own() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("own").await;
    for socket in [node.path("criquet.sock"), node.path("state/pods").join(&pod).join("m")] {
        let mode = fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", socket.display());
    }
    // Somebody with the rights of the daemon, and none to look at others, sees nothing of it.
    node.kill_daemon();
    let without = ["setpriv", "--bounding-set=-sys_ptrace"];
    node.start_daemon_through(&without).await;
    let file = format!("/proc/{}/exe", node.daemon_pid());
    let reader = node.inside(without[0]).args([without[1], "readlink", &file]).output().unwrap();
    assert!(!reader.status.success(), "the daemon's memory can be read");
}

/// What others honour as well.
#[tokio::test]
async fn what_is_only_odd_is_honoured() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("odd").await;
    let mut config = requests::script(
        "odd",
        "pwd; ls -d /work; df / | tail -n 1; grep CapEff /proc/self/status",
    );
    config.working_dir = "/not/there".to_owned();
    config.mounts = vec![v1::Mount {
        container_path: "/mnt/../work".to_owned(),
        host_path: node.path("logs").display().to_string(),
        ..Default::default()
    }];
    let security = requests::security(&mut config);
    security.readonly_rootfs = true;
    security.capabilities = Some(v1::Capability {
        add_capabilities: vec!["NET_ADMIN".to_owned(), "NO_SUCH".to_owned()],
        drop_capabilities: vec!["ALL".to_owned(), "NET_ADMIN".to_owned(), "OTHER".to_owned()],
        ..Default::default()
    });
    let (status, text) = node.result_of(&pod, config).await;
    assert_eq!(status.exit_code, 0, "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["/not/there", "/work"]);
    assert!(lines[2].starts_with("overlay"), "{text}");
    assert_eq!(lines[3], "CapEff:\t0000000000000000");

    let mut on_host = requests::sandbox(&node, "host");
    on_host.hostname.clear();
    let options = v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        pid: v1::NamespaceMode::Container.into(),
        ..Default::default()
    };
    let linux = on_host.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = Some(options.clone());
    let pod = node.run(on_host).await.unwrap();
    let mut config = requests::script("name", "echo $HOSTNAME");
    requests::security(&mut config).namespace_options = Some(options);
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(node.result_of(&pod, config).await.1, name.trim());
}

/// Who says something about security and hides nothing wants to see all; who says nothing gets
/// what is usual.
#[tokio::test]
async fn masks_are_those_that_are_asked_for() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("masks").await;
    let show = "ls /sys/firmware | grep -c . ; grep -c ' /proc/sys ' /proc/self/mountinfo
        for d in /sys/devices/system/cpu/cpu*/thermal_throttle; do ls $d 2>/dev/null; done";
    let mut unmasked = requests::script("unmasked", show);
    requests::security(&mut unmasked).masked_paths.clear();
    requests::security(&mut unmasked).readonly_paths.clear();
    let (_, text) = node.result_of(&pod, unmasked).await;
    assert_eq!(text.lines().nth(1), Some("0"), "{text}");
    let mut usual = requests::script("usual", show);
    usual.linux = None;
    // Without a word it shares the PID namespace of its pod, which this one has not.
    let shared = requests::sandbox(&node, "shared");
    let pod = node.run(v1::PodSandboxConfig { linux: None, ..shared }).await.unwrap();
    let (_, text) = node.result_of(&pod, usual).await;
    assert_eq!(text, "0\n1");
}
