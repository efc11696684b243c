//! Calls about the node and the runtime: Version, Status, RuntimeConfig, UpdateRuntimeConfig.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::time::timeout;
use tonic::Status;

use super::{info, v1};
use crate::{
    pod::{Pods, StorageTrouble},
    spec,
};

/// How long the network may take to tell how it is: the kubelet asks every few seconds.
const NETWORK_LIMIT: Duration = Duration::from_secs(5);

/// The name that the runtime goes by.
const NAME: &str = "criquet";

pub(super) fn version() -> v1::VersionResponse {
    v1::VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: NAME.to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    }
}

pub(super) async fn status(pods: &Pods, verbose: bool) -> v1::StatusResponse {
    let network = timeout(NETWORK_LIMIT, pods.network().status()).await;
    let network = match network {
        Ok(result) => result.map_err(|error| crate::kind::chain(&error)),
        Err(_) => {
            let limit = NETWORK_LIMIT.as_secs();
            Err(format!("the network does not tell within {limit} seconds how it is"))
        }
    };
    let handlers = std::iter::once(String::new()).chain(pods.rules().handlers.clone());
    let info = if verbose { info::daemon(pods).await } else { HashMap::new() };
    v1::StatusResponse {
        status: Some(v1::RuntimeStatus {
            conditions: vec![
                condition("RuntimeReady", runtime_ready(pods).await),
                condition(
                    "NetworkReady",
                    network.map_err(|words| ("NetworkPluginNotReady", words)),
                ),
            ],
        }),
        info,
        runtime_handlers: handlers
            .map(|name| v1::RuntimeHandler {
                name,
                features: Some(v1::RuntimeHandlerFeatures {
                    // The runtime makes every mount with mount_setattr(2), which has it.
                    recursive_read_only_mounts: true,
                    user_namespaces: pods.node().user_namespaces,
                }),
            })
            .collect(),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: pods.node().user_namespaces,
            mount_options: true,
        }),
    }
}

/// Containers can be made as long as state can be written.
async fn runtime_ready(pods: &Pods) -> Result<(), (&'static str, String)> {
    pods.storage().await.map_err(|trouble| match trouble {
        StorageTrouble::NotWritable(words) => ("StorageNotWritable", words),
        StorageTrouble::NotAnswering(words) => ("StorageNotAnswering", words),
    })
}

fn condition(kind: &str, result: Result<(), (&'static str, String)>) -> v1::RuntimeCondition {
    let (status, (reason, message)) = match result {
        Ok(()) => (true, Default::default()),
        Err((reason, message)) => (false, (reason, message)),
    };
    v1::RuntimeCondition { r#type: kind.to_owned(), status, reason: reason.to_owned(), message }
}

pub(super) fn runtime_config(pods: &Pods) -> v1::RuntimeConfigResponse {
    let driver = match pods.systemd() {
        Some(_) => v1::CgroupDriver::Systemd,
        None => v1::CgroupDriver::Cgroupfs,
    };
    let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: driver.into() };
    v1::RuntimeConfigResponse { linux: Some(linux) }
}

pub(super) async fn update_runtime_config(
    pods: &Pods,
    config: Option<v1::RuntimeConfig>,
) -> Result<(), Status> {
    let cidrs = config.and_then(|config| config.network_config).unwrap_or_default().pod_cidr;
    let cidrs = cidrs
        .split(',')
        .map(str::trim)
        .filter(|cidr| !cidr.is_empty())
        .map(|cidr| {
            cidr.parse::<IpNet>().map_err(|_| {
                let what = match cidr.parse::<IpAddr>() {
                    Ok(_) => "has no prefix length",
                    Err(_) => "is not a subnet",
                };
                let reason = format!("{cidr:?} {what}; write it like 10.1.0.0/24");
                spec::Error::invalid("runtime_config.network_config.pod_cidr", reason)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(pods.network().set_pod_cidrs(&cidrs).await?)
}
