//! The steps of the demonstration, each with the time it takes.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use criquet::{
    cri::v1::{
        ContainerConfig, ContainerMetadata, ContainerState, ContainerStatusRequest,
        CreateContainerRequest, ExecSyncRequest, ImageSpec, PodSandboxConfig, PodSandboxMetadata,
        PodSandboxStatusRequest, PullImageRequest, RemoveContainerRequest, RemoveImageRequest,
        RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest,
        StopPodSandboxRequest, image_service_client::ImageServiceClient,
        runtime_service_client::RuntimeServiceClient,
    },
    network::Network,
    store::{Database, Durability},
};
use tonic::transport::Channel;

use crate::{
    Place,
    daemon::{Daemon, connect},
    traces::Traces,
    web::{check_gapless, get, numbers, wait_for_more},
};

const TALK: &str = "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.05; done";

/// The demonstration under way.
#[derive(Debug)]
pub struct Demo<'a> {
    place: Place<'a>,
    daemon: Option<Daemon>,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    sandbox: Option<String>,
    /// What was on the machine while the pod ran.
    pub during: Option<Traces>,
}

impl<'a> Demo<'a> {
    /// Starts the daemon.
    pub async fn start(place: Place<'a>) -> anyhow::Result<Self> {
        let begin = Instant::now();
        let daemon = Daemon::start(place.args).await?;
        let channel = connect(place.args).await?;
        told("criquet serves, with a configuration and directories of its own", begin);
        Ok(Self {
            place,
            daemon: Some(daemon),
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
            sandbox: None,
            during: None,
        })
    }

    /// Everything up to the removal.
    pub async fn live(&mut self) -> anyhow::Result<()> {
        self.pull().await?;
        let address = self.run_sandbox().await?;
        let web = self.container("web", &["httpd", "-f", "-p", "80", "-h", "/var/www"]).await?;
        let talker = self.container("talker", &["sh", "-c", TALK]).await?;
        self.reach(address).await?;
        let log = self.logs().join("talker.log");
        let begin = Instant::now();
        let lines = wait_for_more(&log, 10).await?;
        told(&format!("the log of the talker has {} lines", lines.len()), begin);
        self.exec(&web).await?;
        self.during = Some(Traces::take(&self.place, self.pid())?);

        self.kill_daemon(address, &log).await?;
        self.restart_daemon(&[&web, &talker]).await?;
        let begin = Instant::now();
        let before = numbers(&log)?.len();
        let lines = wait_for_more(&log, before + 5).await?;
        check_gapless(&lines)?;
        told(&format!("the log has {} lines, none missing and none twice", lines.len()), begin);
        self.exec(&web).await?;
        self.remove(&talker).await
    }

    async fn pull(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let image = Some(self.image());
        let request = PullImageRequest { image, ..Default::default() };
        self.images.pull_image(request).await.context("PullImage")?;
        told(&format!("PullImage {}", self.place.args.image), begin);
        Ok(())
    }

    async fn run_sandbox(&mut self) -> anyhow::Result<SocketAddr> {
        let begin = Instant::now();
        let config = Some(self.sandbox_config());
        let request = RunPodSandboxRequest { config, ..Default::default() };
        let id = self
            .runtime
            .run_pod_sandbox(request)
            .await
            .context("RunPodSandbox")?
            .into_inner()
            .pod_sandbox_id;
        self.sandbox = Some(id.clone());
        told("RunPodSandbox", begin);
        let begin = Instant::now();
        let request = PodSandboxStatusRequest { pod_sandbox_id: id, verbose: false };
        let status = self.runtime.pod_sandbox_status(request).await?.into_inner().status;
        let ip = status.and_then(|status| status.network).map(|network| network.ip);
        let ip = ip.context("the sandbox has no network status")?;
        let ip: IpAddr = ip.parse().with_context(|| format!("the pod's address is {ip:?}"))?;
        told(&format!("PodSandboxStatus: the pod has the address {ip}"), begin);
        Ok(SocketAddr::new(ip, 80))
    }

    async fn container(&mut self, name: &str, command: &[&str]) -> anyhow::Result<String> {
        let begin = Instant::now();
        let request = CreateContainerRequest {
            pod_sandbox_id: self.sandbox.clone().unwrap_or_default(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
                image: Some(self.image()),
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                log_path: format!("{name}.log"),
                ..Default::default()
            }),
            sandbox_config: Some(self.sandbox_config()),
        };
        let response = self.runtime.create_container(request).await.context("CreateContainer")?;
        let id = response.into_inner().container_id;
        told(&format!("CreateContainer {name}"), begin);
        let begin = Instant::now();
        let request = StartContainerRequest { container_id: id.clone() };
        self.runtime.start_container(request).await.context("StartContainer")?;
        told(&format!("StartContainer {name}: {}", command[0]), begin);
        Ok(id)
    }

    async fn reach(&self, address: SocketAddr) -> anyhow::Result<()> {
        let begin = Instant::now();
        let page = get(address).await?;
        ensure!(page == "served from a pod", "the page is {page:?}");
        told(&format!("http://{address}/ from the host: {page:?}"), begin);
        Ok(())
    }

    async fn exec(&mut self, container: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: ["cat", "/etc/hostname"].map(str::to_owned).into(),
            timeout: 5,
        };
        let response = self.runtime.exec_sync(request).await.context("ExecSync")?.into_inner();
        ensure!(response.exit_code == 0, "the exec ended with {}", response.exit_code);
        let output = String::from_utf8_lossy(&response.stdout).trim().to_owned();
        ensure!(output == "demo", "the exec wrote {output:?}");
        told(&format!("ExecSync cat /etc/hostname: {output}"), begin);
        Ok(())
    }

    async fn kill_daemon(
        &mut self,
        address: SocketAddr,
        log: &std::path::Path,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        self.daemon.take().context("no daemon runs")?.kill().await?;
        told("the daemon is killed (SIGKILL)", begin);
        self.reach(address).await?;
        let begin = Instant::now();
        let before = numbers(log)?.len();
        let after = wait_for_more(log, before + 5).await?.len();
        told(&format!("without a daemon the log goes on: {before} lines, {after} lines"), begin);
        Ok(())
    }

    async fn restart_daemon(&mut self, containers: &[&str]) -> anyhow::Result<()> {
        let begin = Instant::now();
        self.daemon = Some(Daemon::start(self.place.args).await?);
        let channel = connect(self.place.args).await?;
        self.runtime = RuntimeServiceClient::new(channel.clone());
        self.images = ImageServiceClient::new(channel);
        told("a new daemon serves", begin);
        let begin = Instant::now();
        for id in containers {
            let request = ContainerStatusRequest { container_id: (*id).to_owned(), verbose: false };
            let status = self.runtime.container_status(request).await.context("ContainerStatus")?;
            let state = status.into_inner().status.map(|status| status.state());
            ensure!(state == Some(ContainerState::ContainerRunning), "it shows {state:?}");
        }
        told("ContainerStatus: both containers run, and were never interrupted", begin);
        Ok(())
    }

    async fn remove(&mut self, container: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        let request = StopContainerRequest { container_id: container.to_owned(), timeout: 0 };
        self.runtime.stop_container(request).await.context("StopContainer")?;
        told("StopContainer talker", begin);
        let begin = Instant::now();
        let request = RemoveContainerRequest { container_id: container.to_owned() };
        self.runtime.remove_container(request).await.context("RemoveContainer")?;
        told("RemoveContainer talker", begin);
        let begin = Instant::now();
        let pod_sandbox_id = self.sandbox.clone().unwrap_or_default();
        let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.runtime.stop_pod_sandbox(request).await.context("StopPodSandbox")?;
        told("StopPodSandbox, which stops web", begin);
        let begin = Instant::now();
        let request = RemovePodSandboxRequest { pod_sandbox_id };
        self.runtime.remove_pod_sandbox(request).await.context("RemovePodSandbox")?;
        self.sandbox = None;
        told("RemovePodSandbox", begin);
        let begin = Instant::now();
        let request = RemoveImageRequest { image: Some(self.image()) };
        self.images.remove_image(request).await.context("RemoveImage")?;
        told("RemoveImage", begin);
        Ok(())
    }

    /// Removes the pod where it still is, ends the daemon, and takes its network away.
    pub async fn end(mut self) -> anyhow::Result<()> {
        if self.daemon.is_none() {
            self.restart_daemon(&[]).await?;
        }
        if let Some(pod_sandbox_id) = self.sandbox.take() {
            let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
            self.runtime.stop_pod_sandbox(request).await.context("StopPodSandbox")?;
            let request = RemovePodSandboxRequest { pod_sandbox_id };
            self.runtime.remove_pod_sandbox(request).await.context("RemovePodSandbox")?;
        }
        let begin = Instant::now();
        if let Some(daemon) = self.daemon.take() {
            daemon.terminate().await?;
        }
        told("the daemon is told to end (SIGTERM)", begin);
        self.dismantle().await
    }

    /// The bridge and the rules stay when a daemon ends, for the pods that run on.
    async fn dismantle(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let config = self.place.config;
        let path = config.root.join("state.db");
        let options = config.network_options();
        // Opening reads the database, which waits for the disk.
        let open = move || {
            let database = Arc::new(Database::open(&path, Durability::Process)?);
            anyhow::Ok(Network::open(options, database)?)
        };
        tokio::task::spawn_blocking(open).await??.remove_builtin().await?;
        told("its bridge and its packet filter rules are removed", begin);
        Ok(())
    }

    fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(|daemon| daemon.pid)
    }

    fn logs(&self) -> PathBuf {
        self.place.args.work.join("logs")
    }

    fn image(&self) -> ImageSpec {
        ImageSpec { image: self.place.args.image.clone(), ..Default::default() }
    }

    fn sandbox_config(&self) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "demo".to_owned(),
                namespace: "default".to_owned(),
                uid: "demo".to_owned(),
                attempt: 0,
            }),
            hostname: "demo".to_owned(),
            log_directory: self.logs().display().to_string(),
            ..Default::default()
        }
    }
}

/// One line: the time since `begin`, and what was done.
fn told(what: &str, begin: Instant) {
    let elapsed: Duration = begin.elapsed();
    println!("{:>9.1} ms  {what}", elapsed.as_secs_f64() * 1e3);
}
