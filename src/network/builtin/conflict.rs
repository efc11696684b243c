//! Whether somebody else on this node has the addresses that pods are to get.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    super::{Error, namespace::write_sysctl, route},
    Builtin,
};

/// The node's routes, by family (proc_net(5)); of the calling thread's network namespace. The
/// last is where the family's settings are.
const ROUTES: [(&str, Parse, &str); 2] = [
    ("/proc/thread-self/net/route", parse_v4, "ipv4"),
    ("/proc/thread-self/net/ipv6_route", parse_v6, "ipv6"),
];

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
    /// what is meant for pods. A wider route, as that to a private network, is no conflict, and
    /// a device that nobody is on, as a bridge that was left behind, is passed by.
    pub(super) fn check_conflicts(&mut self) -> Result<(), Error> {
        for (path, parse, sysctl) in ROUTES {
            // A kernel without this family has no such file.
            let table = fs::read_to_string(path).unwrap_or_default();
            for route in table.lines().filter_map(parse) {
                let subnets = self.subnets();
                let is_own = [self.options.bridge.as_str(), "lo"].contains(&route.device.as_str());
                let taken = subnets.into_iter().find(|subnet| subnet.contains(&route.destination));
                let Some(subnet) = taken.filter(|_| !is_own) else { continue };
                let Route { destination, device } = route;
                // One that is gone meanwhile leads nowhere.
                let link = route::link(&mut self.route, &device).unwrap_or_default();
                if link.has_carrier {
                    return Err(Error::SubnetTaken { subnet, destination, device });
                }
                pass_by(&device, sysctl);
            }
        }
        Ok(())
    }
}

/// Has the kernel pass over the routes of a device for as long as nobody is on it.
fn pass_by(device: &str, family: &str) {
    tracing::warn!(device, "a device that nobody is on has addresses of pods; remove it");
    let sysctl = format!("{family}/conf/{device}/ignore_routes_with_linkdown");
    if let Err(error) = write_sysctl(&sysctl, "1") {
        tracing::warn!(device, %error, "pods may not be reached while it is there");
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
