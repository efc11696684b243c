//! How long a node is without its runtime when the daemon dies and another one is started.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use criquet::cri::v1::{
    ContainerState, ContainerStatusRequest, ListContainersRequest, ListPodSandboxRequest,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::{
    args::Args,
    client::Client,
    lives::{end_many, start_many},
    measure::Figures,
    pods::{Lab, Network, Pod, Times},
};

/// How often the daemon is killed.
const ROUNDS: usize = 5;

/// A daemon that does not answer after so long is given up.
const LIMIT: Duration = Duration::from_secs(120);

/// Starts the pods, kills the daemon and starts it again with the command, and looks.
pub async fn measure(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    let Some(command) = &args.restart else { return Ok(()) };
    let (count, ended) = (args.restart_pods, args.restart_ended);
    eprintln!("  restarts with {count} pods and {ended} ended containers");
    let (pods, _) = start_many(args, lab, count).await?;
    end_containers(args, lab, ended).await?;
    let mut daemon = Daemon { command, child: None };
    let (mut lists, mut states) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (pod, witness) = witness(lab).await?;
        daemon.kill(&lab.client.socket)?;
        kill_process(witness, Signal::KILL).context("ending a container meanwhile")?;
        let start = Instant::now();
        daemon.start()?;
        first_list(&lab.client.socket, start).await?;
        lists.push(start.elapsed());
        knows_the_end(&lab.client.socket, &pod, start).await?;
        states.push(start.elapsed());
        lab.end(pod, &mut Times::default()).await?;
    }
    let of = format!("{count} pods, {ended} ended containers");
    figures.times(format!("first list after a restart, {of}"), &lists, None);
    figures.times(format!("state of what ended meanwhile, {of}"), &states, None);
    end_many(args, lab, pods).await
}

/// Containers that have ended, in one pod for each hundred.
async fn end_containers(args: &Args, lab: &Lab, count: usize) -> anyhow::Result<()> {
    for first in (0..count).step_by(100) {
        let number = 100.min(count - first);
        lab.start_ended(number, args.parallel).await.context("containers that end at once")?;
    }
    Ok(())
}

/// A pod whose container is killed while no daemon is there, and the container's process.
async fn witness(lab: &Lab) -> anyhow::Result<(Pod, Pid)> {
    let pod = lab.start(Network::Host, &mut Times::default()).await?;
    let request = ContainerStatusRequest { container_id: pod.container.clone(), verbose: true };
    let status = lab.client.runtime.clone().container_status(request).await?.into_inner();
    let info: serde_json::Value =
        serde_json::from_str(status.info.get("info").context("the verbose status has no info")?)?;
    let pid = info["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32));
    Ok((pod, pid.context("the verbose status has no pid")?))
}

async fn first_list(socket: &Path, start: Instant) -> anyhow::Result<()> {
    let endpoint = format!("unix://{}", socket.display());
    loop {
        if let Ok(client) = Client::connect(&endpoint).await {
            let mut runtime = client.runtime.clone();
            if runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.is_ok() {
                return Ok(());
            }
        }
        ensure!(start.elapsed() < LIMIT, "the daemon does not answer");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn knows_the_end(socket: &Path, pod: &Pod, start: Instant) -> anyhow::Result<()> {
    let client = Client::connect(&format!("unix://{}", socket.display())).await?;
    loop {
        let mut runtime = client.runtime.clone();
        let list = runtime.list_containers(ListContainersRequest::default()).await?;
        let containers = list.into_inner().containers;
        let mut containers = containers.iter().filter_map(|container| container.plain().ok());
        let own = containers.find(|container| container.id == pod.container);
        if own.is_some_and(|own| own.state == i32::from(ContainerState::ContainerExited)) {
            return Ok(());
        }
        ensure!(start.elapsed() < LIMIT, "the end of a container is not told");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The daemon that is killed and started; the last one stays.
struct Daemon<'a> {
    command: &'a str,
    child: Option<Child>,
}

impl Daemon<'_> {
    fn kill(&mut self, socket: &Path) -> anyhow::Result<()> {
        let stream = std::os::unix::net::UnixStream::connect(socket)?;
        let server = rustix::net::sockopt::socket_peercred(&stream)?.pid;
        let pidfd = pidfd_open(server, PidfdFlags::empty())?;
        kill_process(server, Signal::KILL).context("killing the daemon")?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        let mut ended = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut ended, None)? != 1 {
            bail!("the daemon does not end");
        }
        Ok(())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let child = Command::new("sh")
            .args(["-c", self.command])
            .stdin(Stdio::null())
            .spawn()
            .context("starting the daemon again")?;
        self.child = Some(child);
        Ok(())
    }
}
