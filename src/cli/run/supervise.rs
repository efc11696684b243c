//! A pod from its sandbox to the last trace of it.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rustix::process::getpid;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    DIRECTORY, LABEL, SUPERVISOR, background, error::Error, events::Events, images::Images, pod,
    sandbox, say::Say, shared::Shared, volumes,
};
use crate::{
    cli::image::Client,
    cri::v1::{PodSandboxStatusRequest, RunPodSandboxRequest, UpdatePodSandboxResourcesRequest},
    play::{Facts, Manifest, Plan, hosts},
    sys::process::Identity,
};

/// A pod that is to be run.
pub(super) struct Pod {
    pub manifest: Manifest,
    pub facts: Facts,
    pub plan: Plan,
    pub is_background: bool,
}

/// Runs it, and removes all of it. The exit code is that of the first container that failed.
///
/// # Errors
/// What keeps it from running; nothing of it is left then.
pub(super) async fn run(client: &Client, pod: Pod) -> Result<u8, Error> {
    let names = pod.plan.init.iter().chain(&pod.plan.containers).map(|one| one.name.as_str());
    let say = Say::new(names);
    pod.plan.notes.iter().for_each(|note| say.note(note));
    let name = format!("{}/{}", pod.plan.namespace, pod.plan.name);
    if !sandbox::find(client, &name).await?.is_empty() {
        return Err(Error::Exists(name));
    }
    let (ending, hurry) = (CancellationToken::new(), CancellationToken::new());
    let signals = tokio::spawn(signals(ending.clone(), hurry.clone()));
    let directory = pod.facts.directory.clone();
    let mut id = None;
    let ran = go(client, pod, say, &mut id, (&ending, &hurry)).await;
    // Whatever became of it, nothing of it stays.
    let removed = sandbox::remove(client, id.as_deref(), &directory).await;
    signals.abort();
    let code = ran?;
    removed?;
    // 128 and the number of a signal may be more than a byte has.
    Ok(u8::try_from(code).unwrap_or(1))
}

/// The first asks for the end, the second no longer waits for it; SIGQUIT does both. A terminal
/// that is closed asks as well.
async fn signals(ending: CancellationToken, hurry: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup), Ok(mut quit)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
        signal(SignalKind::quit()),
    ) else {
        return;
    };
    loop {
        let is_urgent = tokio::select! {
            _ = interrupt.recv() => ending.is_cancelled(),
            _ = terminate.recv() => ending.is_cancelled(),
            _ = hangup.recv() => false,
            _ = quit.recv() => true,
        };
        ending.cancel();
        if is_urgent {
            hurry.cancel();
        }
    }
}

async fn go(
    client: &Client,
    pod: Pod,
    say: Say,
    sandbox: &mut Option<String>,
    (ending, hurry): (&CancellationToken, &CancellationToken),
) -> Result<i32, Error> {
    let Pod { manifest, mut facts, mut plan, is_background } = pod;
    let images = Images::of(client);
    mark(&mut plan, &facts);
    volumes::make(&plan.volumes, &facts)?;
    let sources = plan.volumes.iter().map(|volume| &volume.source);
    tokio::select! {
        ready = images.ensure_volumes(sources, &plan.sandbox, &say) => ready?,
        () = ending.cancelled() => return Ok(0),
    }
    let request = RunPodSandboxRequest {
        config: Some(plan.sandbox.clone()),
        runtime_handler: plan.handler.clone(),
    };
    let made = client.pods().run_pod_sandbox(request).await;
    let id = made.map_err(Error::daemon("run the pod"))?.into_inner().pod_sandbox_id;
    *sandbox = Some(id.clone());
    limit(client, &id, &plan).await?;
    let own = addresses(client, &id).await?;
    let address = own.first().cloned();
    // A pod with the host's network has its addresses.
    facts.pod_addresses = if own.is_empty() { facts.host_addresses.clone() } else { own };
    // Containers are told of the addresses, which nobody knew before.
    let marked = plan.sandbox;
    let path = Path::new("the manifest").to_owned();
    plan = Plan::of(&manifest, &facts).map_err(|source| Error::Manifest { path, source })?;
    plan.sandbox = marked;
    // So are files that tell of the pod itself.
    if let Some(text) = hosts(&manifest, &facts) {
        let path = facts.directory.join("hosts");
        std::fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    let name = format!("{}/{}", plan.namespace, plan.name);
    let at = address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
    say.note(&format!("pod {name} is there{at}"));
    for port in &plan.sandbox.port_mappings {
        let host = if port.host_ip.is_empty() { "every address" } else { &port.host_ip };
        let (from, to) = (port.host_port, port.container_port);
        say.note(&format!("port {from} of {host} of this host leads to its port {to}"));
    }
    let shared = Arc::new(Shared {
        pods: client.pods(),
        images,
        plan,
        sandbox: id,
        address: address.unwrap_or_else(|| "127.0.0.1".to_owned()),
        say,
        events: Events::listen(client.pods()),
        hurry: hurry.clone(),
        end: OnceLock::new(),
        ending: ending.clone(),
        failure: OnceLock::new(),
    });
    let running = || {
        if is_background {
            background::runs();
        }
    };
    let code = pod::run(&shared, running).await;
    shared.say.note(&format!("pod {name} has ended and is removed"));
    Ok(code)
}

/// By which `criquet stop` finds the pod, and who looks after it.
fn mark(plan: &mut Plan, facts: &Facts) {
    let pid = getpid().as_raw_nonzero().get().cast_unsigned();
    let started = Identity::of(pid).map_or(0, |identity| identity.started);
    plan.sandbox.labels.insert(LABEL.to_owned(), "true".to_owned());
    let annotations = &mut plan.sandbox.annotations;
    annotations.insert(SUPERVISOR.to_owned(), format!("{pid}:{started}"));
    annotations.insert(DIRECTORY.to_owned(), facts.directory.display().to_string());
}

/// What the pod as a whole may use: the runtime leaves that to kubelets, but for those that ask.
async fn limit(client: &Client, sandbox: &str, plan: &Plan) -> Result<(), Error> {
    let linux = plan.sandbox.linux.clone().unwrap_or_default();
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: sandbox.to_owned(),
        overhead: None,
        resources: linux.resources,
    };
    let limited = client.pods().update_pod_sandbox_resources(request).await;
    limited.map(drop).map_err(Error::daemon("limit the pod"))
}

async fn addresses(client: &Client, sandbox: &str) -> Result<Vec<String>, Error> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned(), verbose: false };
    let answer = client.pods().pod_sandbox_status(request).await;
    let answer = answer.map_err(Error::daemon("tell of the pod"))?.into_inner();
    let network = answer.status.unwrap_or_default().network.unwrap_or_default();
    let others = network.additional_ips.into_iter().map(|address| address.ip);
    Ok([network.ip].into_iter().chain(others).filter(|ip| !ip.is_empty()).collect())
}
