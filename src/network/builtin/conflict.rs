//! Whether somebody else on this node has the addresses that pods are to get.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{super::Error, Builtin};

/// The node's routes, by family (proc_net(5)); of the calling thread's network namespace.
const ROUTES: [(&str, Parse); 2] =
    [("/proc/thread-self/net/route", parse_v4), ("/proc/thread-self/net/ipv6_route", parse_v6)];

/// Reads one line of such a table; nothing of one that is no route.
type Parse = fn(&str) -> Option<Route>;

/// A destination, and the device that leads there.
#[derive(Debug, PartialEq)]
struct Route {
    destination: IpNet,
    device: String,
}

impl Builtin {
    /// Refuses subnets that another device has, whole or in part: the kernel would send there
    /// what is meant for pods. A wider route, as that to a private network, is no conflict.
    pub(super) fn check_conflicts(&self) -> Result<(), Error> {
        for (path, parse) in ROUTES {
            // A kernel without this family has no such file.
            let table = fs::read_to_string(path).unwrap_or_default();
            let mut routes = table.lines().filter_map(parse);
            let subnets = self.subnets();
            let taken = routes.find_map(|route| {
                let subnet = subnets.iter().find(|subnet| subnet.contains(&route.destination))?;
                let is_own = [self.options.bridge.as_str(), "lo"].contains(&route.device.as_str());
                (!is_own).then_some((*subnet, route))
            });
            if let Some((subnet, Route { destination, device })) = taken {
                return Err(Error::SubnetTaken { subnet, destination, device });
            }
        }
        Ok(())
    }
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, addresses as the kernel has
/// them in memory.
fn parse_v4(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |index: usize| {
        let bits = u32::from_str_radix(fields.get(index)?, 16).ok()?;
        Some(Ipv4Addr::from(bits.to_ne_bytes()))
    };
    let destination = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
    Some(Route { destination: destination.into(), device: (*fields.first()?).to_owned() })
}

/// `destination length source length next-hop metric refcnt use flags device`.
fn parse_v6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = u128::from_str_radix(fields.first()?, 16).ok()?;
    let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    let destination = Ipv6Net::new(Ipv6Addr::from(address), length).ok()?;
    Some(Route { destination: destination.into(), device: (*fields.get(9)?).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Route, parse_v4, parse_v6};

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let v4 = "cni0\t0001580A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        let expected =
            Route { destination: "10.88.1.0/24".parse().unwrap(), device: "cni0".to_owned() };
        // Addresses stand there as they lie in memory.
        #[cfg(target_endian = "little")]
        assert_eq!(parse_v4(v4), Some(expected));
        assert_eq!(parse_v4("Iface\tDestination\tGateway"), None);
        let v6 = "fd4a000000000000000000000000 0000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0"
            .replacen(' ', "", 1);
        let expected =
            Route { destination: "fd4a::/64".parse().unwrap(), device: "eth0".to_owned() };
        assert_eq!(parse_v6(&v6), Some(expected));
    }
}
