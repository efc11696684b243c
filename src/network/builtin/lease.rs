//! What a pod of the built-in network has: its addresses, its device and its host ports.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    super::{
        Error,
        bandwidth::Bandwidth,
        request::{PodRequest, PortMapping},
        route::octets,
    },
    ruleset::HostPort,
};

/// How the host's ends of the pods' devices are called, followed by 13 digits.
pub(super) const LINK_PREFIX: &str = "cq";
/// How the devices are called that a pod's packets wait in, with the same digits.
pub(super) const SHAPER_PREFIX: &str = "cb";

/// The record of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Lease {
    /// The addresses with their subnets' prefix lengths, the primary one first.
    pub(super) addresses: Vec<IpNet>,
    /// The host's end of the pair of devices.
    pub(super) link: String,
    /// The host ports that the pod asked for.
    pub(super) port_mappings: Vec<PortMapping>,
    /// How many bits a second the pod may receive; none for as many as it can.
    pub(super) ingress: Option<u64>,
    /// The same of what it sends.
    pub(super) egress: Option<u64>,
}

impl Lease {
    pub(super) fn new(
        request: &PodRequest,
        addresses: Vec<IpNet>,
        bandwidth: Bandwidth,
        salt: &str,
    ) -> Self {
        let mapped = |mapping: &&PortMapping| mapping.host_port != 0;
        Self {
            link: link_name(&request.sandbox_id, salt),
            port_mappings: request.port_mappings.iter().filter(mapped).cloned().collect(),
            addresses,
            ingress: bandwidth.ingress,
            egress: bandwidth.egress,
        }
    }

    /// The limits.
    pub(super) fn bandwidth(&self) -> Bandwidth {
        Bandwidth { ingress: self.ingress, egress: self.egress }
    }

    /// The name of the device that what the pod sends waits in.
    pub(super) fn shaper(&self) -> String {
        let digits = self.link.strip_prefix(LINK_PREFIX).unwrap_or(&self.link);
        format!("{SHAPER_PREFIX}{digits}")
    }

    /// The devices of the host that are the pod's.
    pub(super) fn devices(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.link.clone()).chain(self.egress.map(|_| self.shaper()))
    }

    /// The addresses alone.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr)
    }

    /// A hardware address that goes with the primary address, so that who knows the one
    /// from an earlier pod's time is right about the other.
    pub(super) fn mac(&self) -> [u8; 6] {
        let bytes = self.ips().next().map(octets).unwrap_or_default();
        let mut mac = [0xc2, 0x71, 0, 0, 0, 0];
        let start = bytes.len().saturating_sub(4);
        for (target, byte) in mac.iter_mut().skip(2).zip(bytes.iter().skip(start)) {
            *target = *byte;
        }
        mac
    }

    /// The entries that the host ports are in the maps.
    pub(super) fn host_ports(&self) -> Vec<HostPort> {
        let mut ports = Vec::new();
        for mapping in &self.port_mappings {
            let wanted = mapping.host_ip;
            let fits = |ip: &IpAddr| wanted.is_none_or(|host| host.is_ipv4() == ip.is_ipv4());
            ports.extend(self.ips().filter(fits).map(|ip| HostPort {
                protocol: mapping.protocol,
                port: mapping.host_port,
                host: wanted.filter(|host| !host.is_unspecified()),
                target: (ip, mapping.container_port),
            }));
        }
        ports
    }

    /// Whether the host ports make sense and no other pod has them.
    pub(super) fn check_ports(&self, others: &HashMap<String, Lease>) -> Result<(), Error> {
        for mapping in &self.port_mappings {
            self.check_mapping(mapping)?;
        }
        let mine = self.host_ports();
        for (index, port) in mine.iter().enumerate() {
            if mine.iter().skip(index + 1).any(|other| collide(port, other)) {
                let reason = "the pod maps it twice; leave one of the mappings out".to_owned();
                return Err(Error::PortMapping { host_port: port.port, reason });
            }
        }
        if mine.is_empty() {
            return Ok(());
        }
        // Most pods have none, or others.
        let may_collide = |lease: &Lease| {
            let theirs = &lease.port_mappings;
            theirs.iter().any(|port| mine.iter().any(|own| own.port == port.host_port))
        };
        for (owner, lease) in others.iter().filter(|(_, lease)| may_collide(lease)) {
            let theirs = lease.host_ports();
            if let Some(port) = mine.iter().find(|port| theirs.iter().any(|o| collide(port, o))) {
                return Err(Error::PortTaken {
                    host_port: port.port,
                    protocol: port.protocol,
                    owner: owner.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_mapping(&self, mapping: &PortMapping) -> Result<(), Error> {
        if mapping.container_port == 0 {
            let reason = "container port 0 cannot be reached; give the port".to_owned();
            return Err(Error::PortMapping { host_port: mapping.host_port, reason });
        }
        match mapping.host_ip {
            Some(IpAddr::V6(host_ip)) if host_ip.is_loopback() => {
                let reason = "the kernel routes nothing from ::1 to a pod; leave host_ip out, and \
                              the port is there on 127.0.0.1, or take another address of the node"
                    .to_owned();
                Err(Error::PortMapping { host_port: mapping.host_port, reason })
            }
            Some(host_ip) if !self.ips().any(|ip| ip.is_ipv4() == host_ip.is_ipv4()) => {
                Err(Error::PortFamily { host_port: mapping.host_port, host_ip })
            }
            _ => Ok(()),
        }
    }
}

fn collide(one: &HostPort, other: &HostPort) -> bool {
    let same_service = (one.protocol, one.port) == (other.protocol, other.port);
    let same_family = one.target.0.is_ipv4() == other.target.0.is_ipv4();
    let same_host = one.host.is_none() || other.host.is_none() || one.host == other.host;
    same_service && same_family && same_host
}

/// A name that no earlier device had: one that still waits for its removal, from an
/// earlier attempt at the same sandbox, must not be mistaken for the new one.
fn link_name(sandbox: &str, salt: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let digest = Sha256::new()
        .chain_update(salt)
        .chain_update([0])
        .chain_update(sandbox)
        .chain_update(now.to_le_bytes())
        .finalize();
    let digits: String = digest.iter().take(7).map(|byte| format!("{byte:02x}")).collect();
    let digits = digits.get(..13).unwrap_or_default();
    format!("{LINK_PREFIX}{digits}")
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::IpAddr};

    use super::{Bandwidth, Error, Lease};
    use crate::network::request::{PodRequest, PortMapping, Protocol};

    fn lease(ports: &[(u16, Option<&str>)]) -> Lease {
        let mapping = |(host_port, host): &(u16, Option<&str>)| PortMapping {
            protocol: Protocol::Tcp,
            host_port: *host_port,
            container_port: 80,
            host_ip: host.map(|host| host.parse::<IpAddr>().unwrap()),
        };
        let request = PodRequest {
            sandbox_id: "a".into(),
            port_mappings: ports.iter().map(mapping).collect(),
            ..PodRequest::default()
        };
        let addresses = ["10.1.0.2/16", "fd00::2/64"].map(|a| a.parse().unwrap());
        Lease::new(&request, addresses.into(), Bandwidth::default(), "test")
    }

    fn check(mine: &Lease, theirs: Lease) -> Result<(), Error> {
        mine.check_ports(&HashMap::from([("other".to_owned(), theirs)]))
    }

    #[test]
    fn host_ports_collide_where_an_address_is_shared() {
        let any = lease(&[(80, None)]);
        assert!(matches!(check(&any, lease(&[(80, None)])), Err(Error::PortTaken { .. })));
        assert!(check(&any, lease(&[(80, Some("192.0.2.1"))])).is_err());
        assert!(check(&any, lease(&[(81, None)])).is_ok());
        let one = lease(&[(80, Some("192.0.2.1"))]);
        assert!(check(&one, lease(&[(80, Some("192.0.2.2"))])).is_ok());
        assert!(check(&one, lease(&[(80, Some("192.0.2.1"))])).is_err());
        assert!(check(&one, lease(&[(80, Some("::"))])).is_ok());
    }

    #[test]
    fn port_0_is_no_mapping_and_a_port_twice_is_an_error() {
        assert!(lease(&[(0, None)]).host_ports().is_empty());
        assert_eq!(lease(&[(80, None)]).host_ports().len(), 2);
        assert_eq!(lease(&[(80, Some("0.0.0.0"))]).host_ports().len(), 1);
        assert!(lease(&[(80, None), (80, None)]).check_ports(&HashMap::new()).is_err());
    }

    #[test]
    fn names_fit_and_differ() {
        let (one, two) = (lease(&[]), lease(&[]));
        assert_eq!(one.link.len(), 15);
        assert_ne!(one.link, two.link);
        assert_eq!(one.mac(), [0xc2, 0x71, 10, 1, 0, 2]);
    }
}
