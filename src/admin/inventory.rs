//! What the daemon accounts for on the machine, and what it finds itself that belongs to nobody.

use std::{collections::HashSet, sync::Arc};

use tonic::Status;

use super::v1::{InventoryResponse, InventorySandbox, Stray, StrayKind};
use crate::{
    network,
    pod::{Known, Pods},
};

/// The inventory of a daemon.
pub(super) async fn now(pods: &Arc<Pods>) -> Result<InventoryResponse, Status> {
    let known = pods.known().await?;
    let layers = pods.images().layer_numbers();
    let strays = pods.network().strays(sandboxes_of(&known)).await?;
    let mut inventory = of(&known, layers.into_iter().collect(), strays);
    inventory.daemon = std::process::id();
    Ok(inventory)
}

/// The sandboxes that there are, those among them that come or go.
pub fn sandboxes_of(known: &Known) -> HashSet<String> {
    known.sandboxes.keys().chain(&known.under_way).cloned().collect()
}

/// The inventory of what is known, without the process of a daemon.
pub fn of(known: &Known, layers: Vec<u64>, of_network: Vec<network::Stray>) -> InventoryResponse {
    let sandboxes = known.sandboxes.iter().map(|(id, sandbox)| InventorySandbox {
        id: id.clone(),
        name: sandbox.name.clone(),
        monitor: sandbox.monitor.map_or(0, |monitor| monitor.pid),
        monitor_started: sandbox.monitor.map_or(0, |monitor| monitor.started),
        cgroup: sandbox.cgroup.to_string_lossy().into_owned(),
    });
    let stray = |kind: StrayKind, name: &str, reason: &str| Stray {
        kind: kind.into(),
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    let mut strays: Vec<Stray> =
        known.homeless().map(|id| stray(StrayKind::Record, id, "its pod has no record")).collect();
    let broken = "a daemon could not read it and has put it aside";
    strays.extend(known.broken.iter().map(|key| stray(StrayKind::BrokenRecord, key, broken)));
    strays.extend(of_network.iter().map(|one| stray(kind_of(one.kind), &one.name, &one.reason)));
    InventoryResponse {
        daemon: 0,
        sandboxes: sandboxes.collect(),
        containers: known.containers.keys().cloned().collect(),
        under_way: known.under_way.iter().cloned().collect(),
        layers,
        strays,
    }
}

fn kind_of(kind: network::StrayKind) -> StrayKind {
    match kind {
        network::StrayKind::Device => StrayKind::Device,
        network::StrayKind::HostPort => StrayKind::HostPort,
        network::StrayKind::Lease => StrayKind::Lease,
    }
}

/// Removes a stray, if it still is one.
pub(super) async fn remove(pods: &Arc<Pods>, kind: StrayKind, name: &str) -> Result<(), Status> {
    let of_network = match kind {
        StrayKind::Record => return Ok(pods.forget_homeless(name).await?),
        StrayKind::BrokenRecord => return Ok(pods.forget_broken(name).await?),
        StrayKind::Holder => return release(pods, name).await,
        StrayKind::Lease => network::StrayKind::Lease,
        StrayKind::Device => network::StrayKind::Device,
        StrayKind::HostPort => network::StrayKind::HostPort,
        StrayKind::Unspecified => return Err(Status::invalid_argument("kind is missing")),
    };
    let sandboxes = sandboxes_of(&pods.known().await?);
    Ok(pods.network().remove_stray(sandboxes, of_network, name.to_owned()).await?)
}

async fn release(pods: &Arc<Pods>, holder: &str) -> Result<(), Status> {
    if !pods.is_unknown(holder).await? {
        return Ok(());
    }
    let holder = holder.to_owned();
    Ok(pods.images().long_aside(move |images| images.release(&holder)).await?)
}
