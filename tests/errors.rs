//! Every mistake of a user gets its code and a sentence, and leaves nothing behind.

mod common;

use std::collections::HashMap;

use common::{Node, leaks, requests};
use criquet::cri::v1;
use tonic::{Code, Status};

fn assert_status(error: &Status, code: Code, words: &str) {
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(words), "{words:?} is not in: {error}");
}

#[tokio::test]
async fn sandboxes() {
    requires_root!();
    let mut node = Node::start().await;
    let base = requests::sandbox(&node, "wrong");
    type Change = Box<dyn Fn(&mut v1::PodSandboxConfig)>;
    let options = |change: fn(&mut v1::NamespaceOption)| -> Change {
        Box::new(move |config| {
            let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
            change(context.namespace_options.as_mut().unwrap());
        })
    };
    let cases: Vec<(Change, Code, &str)> = vec![
        (Box::new(|c| c.metadata = None), Code::InvalidArgument, "metadata"),
        (
            Box::new(|c| c.metadata.as_mut().unwrap().uid.clear()),
            Code::InvalidArgument,
            "metadata.uid",
        ),
        (Box::new(|c| c.hostname = "a\nb".to_owned()), Code::InvalidArgument, "hostname"),
        (Box::new(|c| c.log_directory = "logs".to_owned()), Code::InvalidArgument, "log_directory"),
        (
            Box::new(|c| {
                c.linux.as_mut().unwrap().sysctls =
                    HashMap::from([("kernel.core_pattern".to_owned(), "|/x".to_owned())]);
            }),
            Code::InvalidArgument,
            "kernel.core_pattern",
        ),
        (
            Box::new(|c| {
                c.linux.as_mut().unwrap().sysctls =
                    HashMap::from([("net.no.such".to_owned(), "1".to_owned())]);
            }),
            Code::InvalidArgument,
            "net.no.such",
        ),
        (
            Box::new(|c| {
                c.linux.as_mut().unwrap().sysctls =
                    HashMap::from([("net.ipv4.ip_forward".to_owned(), "many".to_owned())]);
            }),
            Code::InvalidArgument,
            "many",
        ),
        (
            Box::new(|c| c.linux.as_mut().unwrap().cgroup_parent = "a.slice".to_owned()),
            Code::InvalidArgument,
            "cgroupDriver",
        ),
        (options(|o| o.network = 9), Code::InvalidArgument, "network"),
        (options(|o| o.network = 1), Code::InvalidArgument, "network"),
        (options(|o| o.pid = 3), Code::InvalidArgument, "pid"),
        (
            options(|o| o.userns_options = Some(v1::UserNamespace::default())),
            Code::InvalidArgument,
            "userns_options",
        ),
        (
            Box::new(|c| {
                c.port_mappings = vec![v1::PortMapping { host_port: 99_999, ..Default::default() }];
            }),
            Code::InvalidArgument,
            "host_port",
        ),
        (
            Box::new(|c| {
                c.port_mappings = vec![v1::PortMapping {
                    host_port: 1,
                    host_ip: "here".to_owned(),
                    ..Default::default()
                }];
            }),
            Code::InvalidArgument,
            "host_ip",
        ),
        (
            Box::new(|c| c.windows = Some(v1::WindowsPodSandboxConfig::default())),
            Code::InvalidArgument,
            "windows",
        ),
    ];
    for (change, code, words) in cases {
        let mut config = base.clone();
        change(&mut config);
        assert_status(&node.run(config).await.unwrap_err(), code, words);
    }
    let request =
        v1::RunPodSandboxRequest { config: Some(base.clone()), runtime_handler: "kata".to_owned() };
    let error = node.runtime.run_pod_sandbox(request).await.unwrap_err();
    assert_status(&error, Code::InvalidArgument, "kata");
    let error = node.runtime.run_pod_sandbox(v1::RunPodSandboxRequest::default()).await;
    assert_status(&error.unwrap_err(), Code::InvalidArgument, "config");
    assert!(node.pods(v1::PodSandboxFilter::default()).await.is_empty());
    leaks::assert_nothing_left(&node).await;
    // The name of what failed is free.
    node.run(base).await.unwrap();
}

#[tokio::test]
async fn containers() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let file = node.path("config.toml").display().to_string();
    type Change = Box<dyn Fn(&mut v1::ContainerConfig)>;
    let mount = |mount: v1::Mount| -> Change { Box::new(move |c| c.mounts = vec![mount.clone()]) };
    let cases: Vec<(Change, Code, &str)> = vec![
        (Box::new(|c| c.metadata = None), Code::InvalidArgument, "metadata"),
        (Box::new(|c| c.image = None), Code::InvalidArgument, "image"),
        (
            Box::new(|c| c.image.as_mut().unwrap().image = "no/such:image".to_owned()),
            Code::NotFound,
            "no/such:image",
        ),
        (Box::new(|c| c.log_path = "../x.log".to_owned()), Code::InvalidArgument, "log_path"),
        (Box::new(|c| c.working_dir = "relative".to_owned()), Code::InvalidArgument, "working_dir"),
        (
            mount(v1::Mount {
                container_path: "/x".to_owned(),
                host_path: "relative".to_owned(),
                ..Default::default()
            }),
            Code::InvalidArgument,
            "relative",
        ),
        (
            mount(v1::Mount {
                container_path: "/x".to_owned(),
                host_path: format!("{file}/below"),
                ..Default::default()
            }),
            Code::InvalidArgument,
            "below a file",
        ),
        (
            mount(v1::Mount {
                container_path: "/x".to_owned(),
                host_path: file.clone(),
                mount_options: vec!["suid".to_owned()],
                ..Default::default()
            }),
            Code::InvalidArgument,
            "suid",
        ),
        (
            Box::new(|c| requests::security(c).run_as_username = "nobody-knows".to_owned()),
            Code::InvalidArgument,
            "nobody-knows",
        ),
        (
            Box::new(|c| {
                requests::security(c).run_as_user = Some(v1::Int64Value { value: 1 << 32 })
            }),
            Code::InvalidArgument,
            "run_as_user",
        ),
        (
            Box::new(|c| requests::security(c).run_as_group = Some(v1::Int64Value { value: 1 })),
            Code::InvalidArgument,
            "run_as_group",
        ),
        (
            Box::new(|c| requests::security(c).privileged = true),
            Code::InvalidArgument,
            "privileged",
        ),
        (
            Box::new(|c| {
                requests::security(c).namespace_options = Some(v1::NamespaceOption {
                    pid: 3,
                    target_id: "x".to_owned(),
                    ..Default::default()
                });
            }),
            Code::NotFound,
            "x",
        ),
        (
            Box::new(|c| {
                requests::security(c).capabilities = Some(v1::Capability {
                    add_ambient_capabilities: vec!["FLY".to_owned()],
                    ..Default::default()
                });
            }),
            Code::InvalidArgument,
            "FLY",
        ),
        (
            Box::new(|c| {
                requests::security(c).seccomp = Some(v1::SecurityProfile {
                    profile_type: 2,
                    localhost_ref: "/no/such/profile.json".to_owned(),
                });
            }),
            Code::InvalidArgument,
            "/no/such/profile.json",
        ),
        (
            Box::new(|c| requests::resources(c).oom_score_adj = 2000),
            Code::InvalidArgument,
            "oom_score_adj",
        ),
        (
            Box::new(|c| c.cdi_devices = vec![v1::CdiDevice { name: "a/b=c".to_owned() }]),
            Code::NotFound,
            "/etc/cdi, /var/run/cdi",
        ),
        (
            Box::new(|c| {
                c.devices =
                    vec![v1::Device { host_path: "/etc/passwd".to_owned(), ..Default::default() }];
            }),
            Code::InvalidArgument,
            "/etc/passwd",
        ),
    ];
    for (change, code, words) in cases {
        let mut config = requests::script("wrong", "true");
        change(&mut config);
        assert_status(&node.create(&pod, config).await.unwrap_err(), code, words);
    }
    assert!(node.containers(v1::ContainerFilter::default()).await.is_empty());
    let error = node.create("0123", requests::script("c", "true")).await.unwrap_err();
    assert_status(&error, Code::NotFound, "0123");
    let (status, _) = node.result_of(&pod, requests::script("wrong", "true")).await;
    assert_eq!(status.exit_code, 0);
    node.stop_pod(&pod).await.unwrap();
    let error = node.create(&pod, requests::script("late", "true")).await.unwrap_err();
    assert_status(&error, Code::FailedPrecondition, "not ready");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn limits_that_the_kernel_refuses_fail_the_start() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let mut config = requests::script("c", "true");
    requests::resources(&mut config).cpuset_cpus = "9999".to_owned();
    let id = node.create(&pod, config).await.unwrap();
    let error = node.start_container(&id).await.unwrap_err();
    assert!(error.message().contains("cpuset.cpus"), "{error}");
    assert_eq!(node.status(&id).await.unwrap().reason, "StartError");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn images_and_calls_that_are_not_there() {
    requires_root!();
    let mut node = Node::start().await;
    let spec = |image: &str| Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() });
    let status = v1::ImageStatusRequest { image: spec("no/such"), verbose: false };
    assert_eq!(node.images.image_status(status).await.unwrap().into_inner().image, None);
    let remove = v1::RemoveImageRequest { image: spec("no/such") };
    node.images.remove_image(remove).await.unwrap();
    let pull = |image: &str| v1::PullImageRequest { image: spec(image), ..Default::default() };
    let error = node.images.pull_image(pull("Not A Reference")).await.unwrap_err();
    assert_status(&error, Code::InvalidArgument, "Not A Reference");
    let error = node.images.pull_image(pull("127.0.0.1:9/x:1")).await.unwrap_err();
    // The kubelet looks for this word, and only under this code.
    assert_status(&error, Code::Unknown, "RegistryUnavailable: registry 127.0.0.1:9");
    let request = v1::CheckpointContainerRequest::default();
    let error = node.runtime.checkpoint_container(request).await.unwrap_err();
    assert_status(&error, Code::Unimplemented, "CheckpointContainer");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_cannot_be_had() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("streams").await;
    let config = requests::script("created", "true");
    let id = node.create(&pod, config).await.unwrap();
    let (container_id, cmd) = (id, vec!["true".to_owned()]);
    let exec = v1::ExecRequest { container_id, cmd, stdout: true, ..Default::default() };
    let error = node.runtime.exec(exec.clone()).await.unwrap_err();
    assert_status(&error, Code::FailedPrecondition, "is created");
    let both = v1::ExecRequest { tty: true, stderr: true, ..exec.clone() };
    let error = node.runtime.exec(both).await.unwrap_err();
    assert_status(&error, Code::InvalidArgument, "stderr");
    let nowhere = v1::ExecRequest { container_id: "no-such".to_owned(), ..exec };
    let error = node.runtime.exec(nowhere).await.unwrap_err();
    assert_status(&error, Code::NotFound, "no-such");
    let attach = v1::AttachRequest { stdout: true, ..Default::default() };
    let error = node.runtime.attach(attach).await.unwrap_err();
    assert_status(&error, Code::NotFound, "container");
    node.stop_pod(&pod).await.unwrap();
    let ports = v1::PortForwardRequest { pod_sandbox_id: pod, port: Vec::new() };
    let error = node.runtime.port_forward(ports).await.unwrap_err();
    assert_status(&error, Code::FailedPrecondition, "not ready");
}
