//! Networks, for a person.

use std::collections::HashMap;

use futures_util::future::join_all;

use super::{
    Administrator,
    v1::{HostPort, ListNetworksResponse, PodNetwork, Subnet},
};
use crate::{
    kind::chain,
    network::{self, PodListing, PortMapping, SubnetListing},
};

impl Administrator {
    /// What there is of networks, and with `check` what plugins say of each pod.
    pub(super) async fn networks(
        &self,
        check: bool,
    ) -> Result<ListNetworksResponse, network::Error> {
        let network = self.pods.network();
        let (bridge, others) = network.list().await?;
        let names: HashMap<String, (String, String)> = self
            .pods
            .sandboxes()
            .iter()
            .map(|sandbox| {
                let metadata = sandbox.record().config.metadata.clone();
                (sandbox.id.to_string(), (metadata.namespace, metadata.name))
            })
            .collect();
        let mut pods: Vec<PodNetwork> =
            bridge.pods.into_iter().chain(others).map(|one| pod(one, &names)).collect();
        if check {
            let checks = pods.iter().map(|pod| network.check(&pod.sandbox_id));
            let found = join_all(checks).await;
            for (pod, outcome) in pods.iter_mut().zip(found) {
                pod.problem = outcome.err().map(|error| chain(&error)).unwrap_or_default();
            }
        }
        pods.sort_by(|one, other| {
            let key = |pod: &PodNetwork| (pod.namespace.clone(), pod.name.clone());
            key(one).cmp(&key(other))
        });
        Ok(ListNetworksResponse {
            bridge: bridge.bridge,
            mtu: bridge.mtu.unwrap_or_default(),
            subnets: bridge.subnets.iter().map(subnet).collect(),
            pods,
        })
    }
}

fn subnet(one: &SubnetListing) -> Subnet {
    Subnet {
        subnet: one.subnet.to_string(),
        gateway: one.gateway.to_string(),
        used: one.used,
        size: one.size,
    }
}

/// A pod without a name is one that is about to come or to go.
fn pod(one: PodListing, names: &HashMap<String, (String, String)>) -> PodNetwork {
    let (namespace, name) = names.get(&one.sandbox).cloned().unwrap_or_default();
    PodNetwork {
        namespace,
        name,
        sandbox_id: one.sandbox,
        network: one.network,
        addresses: one.addresses.iter().map(ToString::to_string).collect(),
        device: one.device,
        host_ports: one.host_ports.iter().map(host_port).collect(),
        ingress: one.ingress.unwrap_or_default(),
        egress: one.egress.unwrap_or_default(),
        problem: String::new(),
    }
}

fn host_port(mapping: &PortMapping) -> HostPort {
    let host_ip = mapping.host_ip.filter(|ip| !ip.is_unspecified());
    HostPort {
        protocol: mapping.protocol.to_string(),
        host_ip: host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        host_port: mapping.host_port.into(),
        container_port: mapping.container_port.into(),
    }
}
