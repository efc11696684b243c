//! What there is of the built-in network, for people.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{super::request::PortMapping, Builtin, bridge::gateway_of, lease::Lease, pool::Pool};

/// The built-in network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BridgeListing {
    /// The bridge's name.
    pub bridge: String,
    /// Its largest packet; none before the first pod.
    pub mtu: Option<u32>,
    /// Where pods get addresses from.
    pub subnets: Vec<SubnetListing>,
    /// Its pods in the order of their sandboxes.
    pub pods: Vec<PodListing>,
}

/// A subnet of the built-in network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetListing {
    /// The subnet.
    pub subnet: IpNet,
    /// The bridge's address in it.
    pub gateway: IpAddr,
    /// How many addresses are given to pods, or were until a moment ago.
    pub used: u64,
    /// How many there are for pods.
    pub size: u64,
}

/// What a pod has of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodListing {
    /// The sandbox.
    pub sandbox: String,
    /// The network's name: `builtin`, or that of a CNI network.
    pub network: String,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// The host's end of its devices; empty where a plugin has made it.
    pub device: String,
    /// The host ports that lead to it.
    pub host_ports: Vec<PortMapping>,
    /// How many bits a second it may receive; none for as many as it can.
    pub ingress: Option<u64>,
    /// The same of what it sends.
    pub egress: Option<u64>,
}

impl Builtin {
    /// What there is now.
    pub(in super::super) fn list(&mut self) -> BridgeListing {
        for address in self.reaper.buried() {
            self.used.remove(&address);
        }
        let subnet = |pool: &Pool| {
            let subnet = pool.subnet();
            let used = self.used.iter().filter(|address| subnet.contains(*address)).count();
            SubnetListing {
                subnet,
                gateway: gateway_of(&subnet),
                used: used as u64,
                size: pool.size(),
            }
        };
        let mut pods: Vec<PodListing> = self.leases.iter().map(pod).collect();
        pods.sort_by(|one, other| one.sandbox.cmp(&other.sandbox));
        BridgeListing {
            bridge: self.options.bridge.clone(),
            mtu: self.bridge.map(|bridge| bridge.mtu),
            subnets: self.pools.iter().map(subnet).collect(),
            pods,
        }
    }
}

fn pod((sandbox, lease): (&String, &Lease)) -> PodListing {
    PodListing {
        sandbox: sandbox.clone(),
        network: super::NETWORK_NAME.to_owned(),
        addresses: lease.ips().collect(),
        device: lease.link.clone(),
        host_ports: lease.port_mappings.clone(),
        ingress: lease.ingress,
        egress: lease.egress,
    }
}
