//! Pods as a kubelet asks for them, and their removal whatever happens.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use criquet::cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, DnsConfig, ExecSyncRequest,
    KeyValue, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, ListPodSandboxRequest, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxFilter, PodSandboxMetadata, PortMapping, Protocol,
    RemovePodSandboxRequest, RunPodSandboxRequest, SecurityProfile, StartContainerRequest,
    StopPodSandboxRequest,
};

use crate::{
    args::Args,
    client::{Client, spec},
    measure::timed,
    usage::{MARK, Usage},
};

/// The label of all pods of one run.
const LABEL: &str = "criquet.bench/run";

/// The name of every container's log.
const LOG: &str = "main.log";

/// The network of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Its own.
    Pod,
    /// Its own, with a host port of TCP and one of UDP.
    Ports,
    /// The host's.
    Host,
}

impl Network {
    /// For the names of figures.
    pub fn name(self) -> &'static str {
        match self {
            Network::Pod => "pod network",
            Network::Ports => "pod network with host ports",
            Network::Host => "host network",
        }
    }
}

/// A pod that runs.
#[derive(Debug)]
pub struct Pod {
    /// The sandbox.
    pub id: String,
    /// Its container.
    pub container: String,
    /// The log of its container.
    pub log: PathBuf,
    /// What it was asked for with.
    config: PodSandboxConfig,
}

/// Times of the steps of pods' lives.
#[derive(Debug, Default)]
pub struct Times {
    /// RunPodSandbox.
    pub run: Vec<Duration>,
    /// CreateContainer.
    pub create: Vec<Duration>,
    /// StartContainer.
    pub start: Vec<Duration>,
    /// StopPodSandbox.
    pub stop: Vec<Duration>,
    /// RemovePodSandbox.
    pub remove: Vec<Duration>,
}

/// One run against one runtime.
#[derive(Debug)]
pub struct Lab {
    /// The runtime.
    pub client: Client,
    /// What the runtime uses.
    pub usage: Usage,
    run: String,
    image: String,
    parent: PathBuf,
    logs: PathBuf,
    next: AtomicUsize,
}

impl Lab {
    /// Makes what the run needs on the machine.
    pub fn new(client: Client, args: &Args) -> anyhow::Result<Self> {
        let usage = Usage::of(&client.socket, &args.cgroup_parent)?;
        let run = format!("bench-{}", std::process::id());
        let logs = std::env::temp_dir().join(format!("criquet-{run}"));
        fs::create_dir_all(&logs).context("creating the log directory")?;
        Ok(Self {
            client,
            usage,
            run,
            image: args.image.clone(),
            parent: args.cgroup_parent.clone(),
            logs,
            next: AtomicUsize::new(0),
        })
    }

    /// RunPodSandbox alone; the sandbox.
    pub async fn run(&self, network: Network, times: &mut Times) -> anyhow::Result<String> {
        let config = Some(self.sandbox_config(network));
        let request = RunPodSandboxRequest { config, ..Default::default() };
        let mut runtime = self.client.runtime.clone();
        let run = timed(&mut times.run, runtime.run_pod_sandbox(request));
        let answer = run.await.context("RunPodSandbox")?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    /// RunPodSandbox, CreateContainer, StartContainer.
    pub async fn start(&self, network: Network, times: &mut Times) -> anyhow::Result<Pod> {
        self.start_command(network, &["sleep", "100000"], times).await
    }

    /// The same with another command.
    pub async fn start_command(
        &self,
        network: Network,
        command: &[&str],
        times: &mut Times,
    ) -> anyhow::Result<Pod> {
        let mut runtime = self.client.runtime.clone();
        let config = self.sandbox_config(network);
        let log = Path::new(&config.log_directory).join(LOG);
        let request = RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        let id = timed(&mut times.run, runtime.run_pod_sandbox(request))
            .await
            .context("RunPodSandbox")?
            .into_inner()
            .pod_sandbox_id;
        let request = CreateContainerRequest {
            pod_sandbox_id: id.clone(),
            config: Some(ContainerConfig {
                command: command.iter().map(|&word| word.to_owned()).collect(),
                ..self.container_config(network)
            }),
            sandbox_config: Some(config.clone()),
        };
        let container = timed(&mut times.create, runtime.create_container(request))
            .await
            .context("CreateContainer")?
            .into_inner()
            .container_id;
        let request = StartContainerRequest { container_id: container.clone() };
        timed(&mut times.start, runtime.start_container(request))
            .await
            .context("StartContainer")?;
        Ok(Pod { id, container, log, config })
    }

    /// A second container in a pod of its own network that runs.
    pub async fn add_container(&self, pod: &Pod) -> anyhow::Result<()> {
        let mut runtime = self.client.runtime.clone();
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata { name: "second".to_owned(), attempt: 0 }),
                log_path: "second.log".to_owned(),
                command: ["sleep", "100000"].map(str::to_owned).to_vec(),
                ..self.container_config(Network::Pod)
            }),
            sandbox_config: Some(pod.config.clone()),
        };
        let container_id = runtime.create_container(request).await?.into_inner().container_id;
        runtime.start_container(StartContainerRequest { container_id }).await?;
        Ok(())
    }

    /// A pod with containers that have ended, for as long as the run.
    pub async fn start_ended(&self, count: usize, at_once: usize) -> anyhow::Result<()> {
        use futures_util::{StreamExt, TryStreamExt, stream};
        let config = self.sandbox_config(Network::Host);
        let request = RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        let mut runtime = self.client.runtime.clone();
        let pod = runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
        stream::iter(0..count)
            .map(Ok)
            .try_for_each_concurrent(at_once, |number| {
                let mut runtime = self.client.runtime.clone();
                let mut container = self.container_config(Network::Host);
                container.command = vec!["true".to_owned()];
                container.metadata =
                    Some(ContainerMetadata { name: "main".to_owned(), attempt: number as u32 });
                let request = CreateContainerRequest {
                    pod_sandbox_id: pod.clone(),
                    config: Some(container),
                    sandbox_config: Some(config.clone()),
                };
                async move {
                    let container_id =
                        runtime.create_container(request).await?.into_inner().container_id;
                    runtime.start_container(StartContainerRequest { container_id }).await?;
                    anyhow::Ok(())
                }
            })
            .await
    }

    /// StopPodSandbox, RemovePodSandbox.
    pub async fn end(&self, pod: Pod, times: &mut Times) -> anyhow::Result<()> {
        self.end_by_id(pod.id, times).await
    }

    /// The same of a sandbox.
    pub async fn end_by_id(&self, id: String, times: &mut Times) -> anyhow::Result<()> {
        let mut runtime = self.client.runtime.clone();
        let request = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
        timed(&mut times.stop, runtime.stop_pod_sandbox(request))
            .await
            .context("StopPodSandbox")?;
        let request = RemovePodSandboxRequest { pod_sandbox_id: id };
        timed(&mut times.remove, runtime.remove_pod_sandbox(request))
            .await
            .context("RemovePodSandbox")?;
        Ok(())
    }

    /// ExecSync of `true`.
    pub async fn exec(&self, pod: &Pod, times: &mut Vec<Duration>) -> anyhow::Result<()> {
        let request = ExecSyncRequest {
            container_id: pod.container.clone(),
            cmd: vec!["true".to_owned()],
            timeout: 10,
        };
        let response = timed(times, self.client.runtime.clone().exec_sync(request))
            .await
            .context("ExecSync")?;
        let code = response.into_inner().exit_code;
        ensure!(code == 0, "`true` ended with {code}");
        Ok(())
    }

    /// Removes every pod of the run, those included that a call which was given up makes yet.
    pub async fn clean(&self) -> anyhow::Result<()> {
        let mut last = String::new();
        let mut quiet = 0;
        for _ in 0..30 {
            let pods = self.sandboxes().await?;
            if pods.is_empty() {
                quiet += 1;
                if quiet == 2 {
                    self.usage.remove(&self.parent);
                    let _ = fs::remove_dir_all(&self.logs);
                    return Ok(());
                }
            }
            for id in pods {
                quiet = 0;
                if let Err(error) = self.end_by_id(id, &mut Times::default()).await {
                    last = format!("{error:#}");
                }
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        bail!("{last}")
    }

    async fn sandboxes(&self) -> anyhow::Result<Vec<String>> {
        let filter = PodSandboxFilter { label_selector: self.labels(), ..Default::default() };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let pods = self.client.runtime.clone().list_pod_sandbox(request).await?.into_inner().items;
        pods.iter().map(|pod| Ok(pod.plain()?.id)).collect()
    }

    /// One of those that run.
    pub async fn first_sandbox(&self) -> anyhow::Result<String> {
        self.sandboxes().await?.pop().context("no pod runs")
    }

    fn labels(&self) -> HashMap<String, String> {
        HashMap::from([(LABEL.to_owned(), self.run.clone())])
    }

    fn sandbox_config(&self, network: Network) -> PodSandboxConfig {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", self.run);
        let host_port = |protocol: Protocol| PortMapping {
            protocol: protocol.into(),
            container_port: 80,
            // Of so many pods at once none has another's.
            host_port: 20_000 + (number % 10_000) as i32,
            ..Default::default()
        };
        let ports = [Protocol::Tcp, Protocol::Udp];
        PodSandboxConfig {
            port_mappings: match network {
                Network::Ports => ports.map(host_port).into(),
                Network::Pod | Network::Host => Vec::new(),
            },
            metadata: Some(PodSandboxMetadata {
                uid: name.clone(),
                namespace: "bench".to_owned(),
                attempt: 0,
                name: name.clone(),
            }),
            log_directory: directory(&self.logs, &name),
            hostname: if network == Network::Host { String::new() } else { name },
            dns_config: Some(DnsConfig {
                servers: vec!["127.0.0.1".to_owned()],
                ..Default::default()
            }),
            labels: self.labels(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.parent.display().to_string(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(network)),
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Limits and seccomp's default profile, as most containers of a cluster have them.
    fn container_config(&self, network: Network) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(spec(&self.image)),
            envs: vec![KeyValue { key: MARK.to_owned(), value: self.run.clone().into() }],
            log_path: LOG.to_owned(),
            labels: self.labels(),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: 102,
                    memory_limit_in_bytes: 64 << 20,
                    oom_score_adj: 999,
                    ..Default::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces(network)),
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }
}

fn namespaces(network: Network) -> NamespaceOption {
    let network = match network {
        Network::Pod | Network::Ports => NamespaceMode::Pod,
        Network::Host => NamespaceMode::Node,
    };
    NamespaceOption {
        network: network.into(),
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    }
}

fn directory(logs: &Path, name: &str) -> String {
    logs.join(name).display().to_string()
}
