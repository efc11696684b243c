//! What a caller asks for and what it gets: the pod to be joined to a network, and the
//! addresses that the pod then has.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

/// The pod whose network namespace is set up or torn down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodRequest {
    /// The sandbox; what is recorded is recorded under this name.
    pub sandbox_id: String,
    /// The pod's name.
    pub name: String,
    /// The pod's Kubernetes namespace.
    pub namespace: String,
    /// The pod's unique identity.
    pub uid: String,
    /// The pod's annotations; bandwidth limits are among them.
    pub annotations: BTreeMap<String, String>,
    /// The host ports that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// The cgroup of the pod; empty when there is none.
    pub cgroup_parent: String,
    /// The name servers of the pod.
    pub dns: Dns,
    /// The addresses that the pod shall have, with or without prefix lengths; none for those
    /// that the network gives it.
    pub ips: Vec<String>,
    /// The hardware address that it shall have; empty for one that the network gives it.
    pub mac: String,
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port of the host; 0 means that nothing is mapped.
    pub host_port: u16,
    /// The port of the pod.
    pub container_port: u16,
    /// The address of the host; none, or an unspecified one, means each of them.
    pub host_ip: Option<IpAddr>,
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission control protocol.
    Tcp,
    /// User datagram protocol.
    Udp,
    /// Stream control transmission protocol.
    Sctp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol's name in CNI configurations.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where the pod asks for names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// What a pod has after its network was set up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Addresses {
    /// The pod's addresses, the primary one first.
    pub ips: Vec<IpAddr>,
    /// The interfaces inside the pod.
    pub interfaces: Vec<String>,
    /// The network that made them: `builtin`, or the name of a CNI network.
    pub network: String,
}

impl Addresses {
    /// Puts the addresses of a family first; the order within each stays.
    pub(super) fn prefer(&mut self, family: Option<Family>) {
        if let Some(family) = family {
            self.ips.sort_by_key(|ip| ip.is_ipv4() != (family == Family::Ipv4));
        }
    }
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// As configurations have it.
    pub fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }

    /// The family of such a name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Family::Ipv4, Family::Ipv6].into_iter().find(|family| family.name() == name)
    }
}
