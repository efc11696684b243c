//! What is known of a pod on CNI networks: recorded before a plugin is called, so that
//! whatever it did can be undone, also when the configuration has changed by then.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{super::request::PodRequest, list::NetworkList};

/// A pod and its networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attachment {
    /// What was asked for.
    pub(super) request: PodRequest,
    /// The path of the pod's network namespace at that time.
    pub(super) netns: String,
    /// The networks in the order in which they were attached.
    pub(super) networks: Vec<Attached>,
    /// The subnets of the node at that time.
    #[serde(default)]
    pub(super) ranges: Vec<IpNet>,
}

/// One network of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attached {
    /// The network's configuration as it was used.
    pub(super) list: NetworkList,
    /// The interface inside the pod.
    pub(super) interface: String,
    /// What the last plugin answered; none when the chain did not come to its end.
    pub(super) result: Option<Value>,
}

/// The part of a result that is read here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniResult {
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
    /// Before version 0.3.0 there was one address of each family.
    ip4: Option<OldIp>,
    ip6: Option<OldIp>,
}

#[derive(Debug, Deserialize)]
struct OldIp {
    ip: String,
}

#[derive(Debug, Deserialize)]
struct Interface {
    #[serde(default)]
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: String,
    interface: Option<usize>,
}

/// The pod's addresses in the order of the result.
pub(super) fn addresses(result: &Value) -> Result<Vec<IpAddr>, String> {
    let result: CniResult = CniResult::deserialize(result).map_err(|error| error.to_string())?;
    let inside = |ip: &&Ip| match ip.interface.and_then(|index| result.interfaces.get(index)) {
        Some(interface) => !interface.sandbox.is_empty(),
        None => true,
    };
    let parse = |text: &String| {
        let address = text.parse::<IpNet>().map(|net| net.addr());
        address.map_err(|error| format!("address {text:?}: {error}"))
    };
    let new = result.ips.iter().filter(inside).map(|ip| &ip.address);
    let old = result.ip4.iter().chain(&result.ip6).map(|old| &old.ip);
    new.chain(old).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::addresses;

    #[test]
    fn addresses_of_the_hosts_interfaces_are_left_out() {
        let result = json!({
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/x"}],
            "ips": [
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.5/24", "interface": 1},
                {"address": "fd00::5/64"},
            ],
        });
        let found: Vec<String> =
            addresses(&result).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.5", "fd00::5"]);
        assert!(addresses(&json!({"ips": [{"address": "x"}]})).is_err());
        assert!(addresses(&json!({})).unwrap().is_empty());
        let old = json!({"ip4": {"ip": "10.0.0.5/24"}, "ip6": {"ip": "fd00::5/64"}});
        assert_eq!(addresses(&old).unwrap().len(), 2);
    }
}
