//! Every call of the CRI against a fault: each answers, whatever it says, but for those that
//! have to do with what is broken; those answer when it is whole again. What is not broken
//! goes on meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    pin::Pin,
};

use criquet::cri::v1;
use rustix::process::{Signal, kill_process};
use tokio::task::JoinHandle;
use tonic::Status;

use super::{disks::Disk, networks};
use crate::common::{
    Node, answered, hang::Hanging, image, leaks, requests, streams::ports::listen,
};

type Calling = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;
type Call = (&'static str, Calling);

/// What the calls are about.
struct Victim {
    pod: String,
    /// One that runs, and one that was only created.
    runs: String,
    created: String,
    /// What is asked for anew.
    sandbox: v1::PodSandboxConfig,
    container: v1::ContainerConfig,
    image: String,
}

impl Victim {
    async fn in_pod(node: &mut Node) -> Self {
        let pod = node.pod("victim").await;
        let runs = node.launch(&pod, requests::script("runs", "sleep 1000")).await;
        let created = node.create(&pod, requests::script("created", "sleep 1000")).await.unwrap();
        Self {
            pod,
            runs,
            created,
            sandbox: requests::sandbox(node, "new"),
            container: requests::script("new", "sleep 1000"),
            image: image::NAME.to_owned(),
        }
    }

    fn spec(&self) -> Option<v1::ImageSpec> {
        Some(v1::ImageSpec { image: self.image.clone(), ..Default::default() })
    }
}

/// A call, and for one that streams the whole of what it says.
macro_rules! call {
    ($client:expr, $name:ident, $request:expr) => {{
        let (mut client, request) = ($client.clone(), $request);
        let call: Calling = Box::pin(async move { client.$name(request).await.map(drop) });
        (stringify!($name), call)
    }};
    (stream $client:expr, $name:ident, $request:expr) => {{
        let (mut client, request) = ($client.clone(), $request);
        let call: Calling = Box::pin(async move {
            let mut stream = client.$name(request).await?.into_inner();
            while stream.message().await?.is_some() {}
            Ok(())
        });
        (stringify!($name), call)
    }};
}

/// Calls that look, or change something that stays.
fn looking(node: &Node, victim: &Victim) -> Vec<Call> {
    let (runtime, images) = (&node.runtime, &node.images);
    let (id, pod) = (|| victim.runs.clone(), || victim.pod.clone());
    let command = || ["true".to_owned()].to_vec();
    vec![
        call!(runtime, version, v1::VersionRequest::default()),
        call!(runtime, status, v1::StatusRequest { verbose: true }),
        call!(runtime, runtime_config, v1::RuntimeConfigRequest::default()),
        call!(runtime, update_runtime_config, v1::UpdateRuntimeConfigRequest::default()),
        call!(runtime, list_pod_sandbox, v1::ListPodSandboxRequest::default()),
        call!(stream runtime, stream_pod_sandboxes, v1::StreamPodSandboxesRequest::default()),
        call!(
            runtime,
            pod_sandbox_status,
            v1::PodSandboxStatusRequest { pod_sandbox_id: pod(), verbose: true }
        ),
        call!(runtime, list_containers, v1::ListContainersRequest::default()),
        call!(stream runtime, stream_containers, v1::StreamContainersRequest::default()),
        call!(
            runtime,
            container_status,
            v1::ContainerStatusRequest { container_id: id(), verbose: true }
        ),
        call!(runtime, container_stats, v1::ContainerStatsRequest { container_id: id() }),
        call!(runtime, list_container_stats, v1::ListContainerStatsRequest::default()),
        call!(stream runtime, stream_container_stats, v1::StreamContainerStatsRequest::default()),
        call!(runtime, pod_sandbox_stats, v1::PodSandboxStatsRequest { pod_sandbox_id: pod() }),
        call!(runtime, list_pod_sandbox_stats, v1::ListPodSandboxStatsRequest::default()),
        call!(
            stream runtime,
            stream_pod_sandbox_stats,
            v1::StreamPodSandboxStatsRequest::default()
        ),
        call!(runtime, list_metric_descriptors, v1::ListMetricDescriptorsRequest::default()),
        call!(runtime, list_pod_sandbox_metrics, v1::ListPodSandboxMetricsRequest::default()),
        call!(runtime, get_container_events, v1::GetEventsRequest::default()),
        call!(
            runtime,
            update_container_resources,
            v1::UpdateContainerResourcesRequest {
                container_id: id(),
                linux: Some(v1::LinuxContainerResources { cpu_shares: 512, ..Default::default() }),
                ..Default::default()
            }
        ),
        call!(
            runtime,
            exec_sync,
            v1::ExecSyncRequest { container_id: id(), cmd: command(), timeout: 10 }
        ),
        call!(
            runtime,
            exec,
            v1::ExecRequest {
                container_id: id(),
                cmd: command(),
                stdout: true,
                ..Default::default()
            }
        ),
        call!(
            runtime,
            attach,
            v1::AttachRequest { container_id: id(), stdout: true, ..Default::default() }
        ),
        call!(
            runtime,
            port_forward,
            v1::PortForwardRequest { pod_sandbox_id: pod(), port: vec![80] }
        ),
        call!(runtime, reopen_container_log, v1::ReopenContainerLogRequest { container_id: id() }),
        call!(images, list_images, v1::ListImagesRequest::default()),
        call!(stream images, stream_images, v1::StreamImagesRequest::default()),
        call!(images, image_status, v1::ImageStatusRequest { image: victim.spec(), verbose: true }),
        call!(images, image_fs_info, v1::ImageFsInfoRequest::default()),
    ]
}

/// Calls that make something.
fn making(node: &Node, victim: &Victim) -> Vec<Call> {
    let runtime = &node.runtime;
    vec![
        call!(
            runtime,
            run_pod_sandbox,
            v1::RunPodSandboxRequest { config: Some(victim.sandbox.clone()), ..Default::default() }
        ),
        call!(
            runtime,
            create_container,
            v1::CreateContainerRequest {
                pod_sandbox_id: victim.pod.clone(),
                config: Some(victim.container.clone()),
                sandbox_config: None,
            }
        ),
        call!(
            runtime,
            start_container,
            v1::StartContainerRequest { container_id: victim.created.clone() }
        ),
        call!(
            node.images,
            pull_image,
            v1::PullImageRequest { image: victim.spec(), ..Default::default() }
        ),
    ]
}

/// Calls that end something, in their order.
fn ending(node: &Node, victim: &Victim) -> Vec<Call> {
    let (runtime, id, pod) = (&node.runtime, victim.runs.clone(), victim.pod.clone());
    vec![
        call!(
            runtime,
            stop_container,
            v1::StopContainerRequest { container_id: id.clone(), timeout: 0 }
        ),
        call!(runtime, remove_container, v1::RemoveContainerRequest { container_id: id }),
        call!(runtime, stop_pod_sandbox, v1::StopPodSandboxRequest { pod_sandbox_id: pod.clone() }),
        call!(runtime, remove_pod_sandbox, v1::RemovePodSandboxRequest { pod_sandbox_id: pod }),
    ]
}

/// What was called and is not answered yet.
struct Waiting(Vec<JoinHandle<Result<(), Status>>>);

/// Makes all calls, and returns those that wait, which only `may_wait` may.
async fn call_all(calls: Vec<Call>, may_wait: &[&str]) -> Waiting {
    let mut waiting = Vec::new();
    for (name, call) in calls {
        let call = tokio::spawn(call);
        if may_wait.contains(&name) {
            waiting.push(call);
        } else {
            // What it says depends on how far it came.
            let _ = answered(name, call).await.expect(name);
        }
    }
    Waiting(waiting)
}

impl Waiting {
    /// All of them answer now.
    async fn end(self) {
        for call in self.0 {
            let _ = answered("what waited", call).await.unwrap();
        }
    }

    /// Their clients go away.
    fn give_up(self) {
        for call in self.0 {
            call.abort();
        }
    }
}

/// Another pod has its whole life while something is broken.
async fn others_go_on(node: &mut Node) {
    let pod = answered("another pod", node.pod("other")).await;
    let container =
        answered("its container", node.launch(&pod, requests::script("c", "cat"))).await;
    answered("its end", node.stop(&container, 0)).await.unwrap();
    answered("its removal", node.remove_pod(&pod)).await.unwrap();
}

async fn remove_all(node: &mut Node) {
    for pod in node.pods(v1::PodSandboxFilter::default()).await {
        answered("RemovePodSandbox", node.remove_pod(&pod.id)).await.unwrap();
    }
}

#[tokio::test]
async fn a_monitor_that_is_stopped() {
    requires_root!();
    let mut node = Node::start().await;
    let victim = Victim::in_pod(&mut node).await;
    let monitor = node.monitor_of(&victim.pod);
    kill_process(monitor, Signal::STOP).unwrap();
    call_all(looking(&node, &victim), &[]).await;
    call_all(making(&node, &victim), &[]).await;
    others_go_on(&mut node).await;
    call_all(ending(&node, &victim), &[]).await;
    remove_all(&mut node).await;
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_monitor_that_is_killed() {
    requires_root!();
    let mut node = Node::start().await;
    let victim = Victim::in_pod(&mut node).await;
    kill_process(node.monitor_of(&victim.pod), Signal::KILL).unwrap();
    call_all(looking(&node, &victim), &[]).await;
    call_all(making(&node, &victim), &[]).await;
    others_go_on(&mut node).await;
    call_all(ending(&node, &victim), &[]).await;
    remove_all(&mut node).await;
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_container_that_is_frozen() {
    requires_root!();
    let mut node = Node::start().await;
    let victim = Victim::in_pod(&mut node).await;
    let freezer = Freezer::of(&node, &victim);
    freezer.freeze();
    // A command in it waits with it: for its own limit here, of ten seconds.
    call_all(looking(&node, &victim), &[]).await;
    call_all(making(&node, &victim), &[]).await;
    others_go_on(&mut node).await;
    call_all(ending(&node, &victim), &[]).await;
    remove_all(&mut node).await;
    leaks::assert_nothing_left(&node).await;
}

/// The file that freezes a container's cgroup, and what is to be written there
/// (`freezer.state` of version 1, `cgroup.freeze` of version 2).
struct Freezer(PathBuf, &'static str);

impl Freezer {
    fn of(node: &Node, victim: &Victim) -> Self {
        let below = format!("{}/{}/{}", node.cgroup, victim.pod, victim.runs);
        let v1 = Path::new("/sys/fs/cgroup/freezer").join(&below);
        if v1.exists() {
            Self(v1.join("freezer.state"), "FROZEN")
        } else {
            Self(Path::new("/sys/fs/cgroup").join(below).join("cgroup.freeze"), "1")
        }
    }

    fn freeze(&self) {
        fs::write(&self.0, self.1).unwrap();
    }
}

#[tokio::test]
async fn a_volume_and_a_log_directory_that_hang() {
    requires_root!();
    let mut node = Node::start().await;
    let mut hanging = Hanging::at(&node.path("hang"));
    let mut victim = Victim::in_pod(&mut node).await;
    victim.sandbox.log_directory = node.path("hang/logs").display().to_string();
    victim.container.mounts = vec![v1::Mount {
        container_path: "/mnt".to_owned(),
        host_path: node.path("hang/volume").display().to_string(),
        ..Default::default()
    }];
    let waiting = call_all(making(&node, &victim), &["run_pod_sandbox", "create_container"]).await;
    call_all(looking(&node, &victim), &[]).await;
    others_go_on(&mut node).await;
    call_all(ending(&node, &victim), &[]).await;
    hanging.abort();
    waiting.end().await;
    remove_all(&mut node).await;
    leaks::assert_nothing_left_but_mounts(&node, &["hang"]).await;
}

#[tokio::test]
async fn a_disk_that_is_full() {
    requires_root!();
    let mut node = Node::start().await;
    let disk = Disk::below(&mut node);
    node.start_daemon().await;
    let victim = Victim::in_pod(&mut node).await;
    disk.fill();
    call_all(looking(&node, &victim), &[]).await;
    call_all(making(&node, &victim), &[]).await;
    call_all(ending(&node, &victim), &[]).await;
    disk.empty();
    others_go_on(&mut node).await;
    remove_all(&mut node).await;
    leaks::assert_nothing_left_but_mounts(&node, &["root"]).await;
    node.kill_daemon();
}

#[tokio::test]
async fn a_disk_that_is_frozen() {
    requires_root!();
    let mut node = Node::start().await;
    let disk = Disk::below(&mut node);
    node.start_daemon().await;
    let victim = Victim::in_pod(&mut node).await;
    disk.freeze(true);
    let looking_first = call_all(looking(&node, &victim), &["update_container_resources"]).await;
    let writes = ["run_pod_sandbox", "create_container", "start_container", "pull_image"];
    let making = call_all(making(&node, &victim), &writes).await;
    // What ends something is told at once; a removal is only true once it is stored.
    let ends = ["remove_container", "remove_pod_sandbox"];
    let ending = call_all(ending(&node, &victim), &ends).await;
    let looking = call_all(looking(&node, &victim), &["update_container_resources"]).await;
    disk.freeze(false);
    for waiting in [looking_first, making, ending, looking] {
        waiting.end().await;
    }
    others_go_on(&mut node).await;
    remove_all(&mut node).await;
    leaks::assert_nothing_left_but_mounts(&node, &["root"]).await;
    node.kill_daemon();
}

#[tokio::test]
async fn a_registry_that_says_nothing() {
    requires_root!();
    let mut node = Node::start().await;
    let mut victim = Victim::in_pod(&mut node).await;
    // It takes connections, and never answers.
    let listener = listen(node.namespace(), "127.0.0.1:0".parse().unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
        }
    });
    let host = format!("127.0.0.1:{port}");
    let directory = node.path("certs.d").join(&host);
    fs::create_dir_all(&directory).unwrap();
    let hosts = format!("server = \"http://{host}\"\n[host.\"http://{host}\"]\n");
    fs::write(directory.join("hosts.toml"), hosts).unwrap();
    victim.image = format!("{host}/image:1");
    let waiting = call_all(making(&node, &victim), &["pull_image"]).await;
    call_all(looking(&node, &victim), &[]).await;
    others_go_on(&mut node).await;
    call_all(ending(&node, &victim), &[]).await;
    assert!(waiting.0.iter().all(|pull| !pull.is_finished()));
    waiting.give_up();
    remove_all(&mut node).await;
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_network_plugin_that_hangs() {
    requires_root!();
    let mut node = networks::node(5).await;
    let victim = Victim::in_pod(&mut node).await;
    for fault in ["hang-ADD", "hang-DEL"] {
        networks::set(&node, fault);
    }
    call_all(making(&node, &victim), &[]).await;
    call_all(looking(&node, &victim), &[]).await;
    call_all(ending(&node, &victim), &[]).await;
    for fault in ["hang-ADD", "hang-DEL"] {
        networks::clear(&node, fault);
    }
    others_go_on(&mut node).await;
    remove_all(&mut node).await;
    leaks::assert_nothing_left(&node).await;
}
