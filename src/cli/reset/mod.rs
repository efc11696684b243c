//! `criquet reset`: the end of all pods and of the built-in network, for a node that Criquet
//! leaves. Images stay.
//!
//! The daemon must not run: a kubelet that finds it would start pods as fast as they end. A
//! daemon of the command's own does the work, on a socket that nobody else knows.

mod daemon;
mod error;

use std::{fs, process::ExitCode};

use clap::Args;

use super::{
    Error as CommandError, config::Config, file::Places, image::Client, network, output::print,
};
use crate::cri::{
    PlainPodSandboxItem,
    v1::{
        ContainerState, ListContainersRequest, ListPodSandboxRequest, RemovePodSandboxRequest,
        StopContainerRequest, StopPodSandboxRequest, VersionRequest,
    },
};
use daemon::Daemon;
pub use error::Error;

/// `criquet reset`.
#[derive(Debug, Args)]
pub struct Reset {
    /// Do it; without this the pods are only named
    #[arg(short, long)]
    pub yes: bool,
    /// How long programs have to end by themselves
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub grace: u32,
    /// End the pods of another runtime, which serves at that socket
    #[arg(long, value_name = "unix://PATH")]
    pub endpoint: Option<String>,
    /// The daemon.
    #[command(flatten)]
    pub places: Places,
}

/// Ends all pods, or names them.
pub(super) fn command(arguments: &Reset) -> Result<ExitCode, CommandError> {
    let mut config = arguments.places.load(None)?;
    if let Some(endpoint) = &arguments.endpoint {
        config.listen.clone_from(endpoint);
        return Ok(code(work(&Client::new(&config)?, arguments)?));
    }
    if !config.root.join("state.db").exists() && is_empty(&config.state.join("pods")) {
        print("there are no pods\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    refuse_beside_a_daemon(&config)?;
    let daemon = Daemon::start(&mut config, arguments.places.file.config.as_deref())?;
    let client = Client::new(&config)?;
    let ended = daemon.wait(&client).and_then(|()| work(&client, arguments));
    daemon.stop()?;
    let remaining = ended?;
    if arguments.yes && remaining == 0 {
        network::remove_alone(&config)?;
        print("the built-in network is removed\n")?;
    }
    Ok(code(remaining))
}

fn code(remaining: usize) -> ExitCode {
    if remaining == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_empty(directory: &std::path::Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

fn refuse_beside_a_daemon(config: &Config) -> Result<(), Error> {
    let client = Client::new(config)?;
    match client.ask(client.pods().version(VersionRequest::default())) {
        Ok(_) => Err(Error::DaemonRuns { socket: config.socket().to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Returns how many pods are still there.
fn work(client: &Client, arguments: &Reset) -> Result<usize, Error> {
    let pods = pods(client)?;
    if pods.is_empty() {
        say("there are no pods");
        return Ok(0);
    }
    if !arguments.yes {
        pods.iter().for_each(|pod| say(&format!("would end {}", name_of(pod))));
        say("nothing is ended; `criquet reset --yes` does it");
        return Ok(pods.len());
    }
    end_containers(client, arguments.grace)?;
    for pod in &pods {
        match end(client, &pod.id) {
            Ok(()) => say(&format!("ended {}", name_of(pod))),
            Err(error) => {
                eprintln!("criquet: pod {}: {}", name_of(pod), crate::kind::chain(&error))
            }
        }
    }
    Ok(self::pods(client)?.len())
}

fn say(line: &str) {
    // What cannot be printed is done all the same.
    let _ = print(&format!("{line}\n"));
}

fn pods(client: &Client) -> Result<Vec<PlainPodSandboxItem>, Error> {
    let answer = client.ask(client.pods().list_pod_sandbox(ListPodSandboxRequest::default()))?;
    Ok(answer.items.iter().filter_map(|item| item.plain().ok()).collect())
}

fn name_of(pod: &PlainPodSandboxItem) -> String {
    match &pod.metadata {
        Some(metadata) => format!("{}/{}", metadata.namespace, metadata.name),
        None => pod.id.clone(),
    }
}

/// Stops all containers side by side; what does not end within its grace is killed.
fn end_containers(client: &Client, grace: u32) -> Result<(), Error> {
    let answer = client.ask(client.pods().list_containers(ListContainersRequest::default()))?;
    let running = answer
        .containers
        .iter()
        .filter_map(|item| item.plain().ok())
        .filter(|item| item.state == i32::from(ContainerState::ContainerRunning));
    let stops = running.map(|container| {
        let mut pods = client.pods();
        let request =
            StopContainerRequest { container_id: container.id, timeout: i64::from(grace) };
        async move { pods.stop_container(request).await }
    });
    let all = futures_util::future::join_all(stops);
    // One that cannot be stopped is told of with its pod.
    Ok(client.wait(async {
        all.await;
        Ok(())
    })?)
}

fn end(client: &Client, pod: &str) -> Result<(), crate::cli::image::Error> {
    let id = pod.to_owned();
    client.ask(
        client.pods().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }),
    )?;
    let request = RemovePodSandboxRequest { pod_sandbox_id: id };
    client.ask(client.pods().remove_pod_sandbox(request))?;
    Ok(())
}
