//! The bridge: made at the first pod, and again when someone removed it.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::{
    super::{
        Error,
        namespace::{read_sysctl, write_sysctl},
        netlink::{Messages, Socket},
        route,
    },
    Builtin,
    pool::Pool,
};

const DEFAULT_MTU: u32 = 1500;
/// Devices with less have no IPv6.
const IPV6_MTU: u32 = 1280;

/// What there is to know of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) index: u32,
    pub(super) mtu: u32,
}

impl Builtin {
    /// The bridge, with everything that pods need of it. Costs one call to the kernel
    /// when it is there.
    pub(super) fn ensure_bridge(&mut self) -> Result<Bridge, Error> {
        let index = route::index_of(&self.route, &self.options.bridge).ok();
        match self.bridge {
            Some(bridge) if index == Some(bridge.index) => Ok(bridge),
            _ => self.make_bridge(index.is_some()),
        }
    }

    fn make_bridge(&mut self, exists: bool) -> Result<Bridge, Error> {
        let name = self.options.bridge.clone();
        self.leave_out_ipv6_without_kernel()?;
        allow_forwarding(self.subnets().iter().any(|subnet| !subnet.addr().is_ipv4()))?;
        self.check_conflicts()?;
        if !exists {
            let uplink = |builtin: &mut Self| builtin.uplink_mtu().map(|mtu| mtu.max(IPV6_MTU));
            let mtu = self.options.mtu.or_else(|| uplink(self)).unwrap_or(DEFAULT_MTU);
            let mut messages = Messages::new();
            let mac = bridge_mac(&name, &self.options.name_prefix);
            route::add_bridge(&mut messages, &name, mac, mtu);
            self.route.send_all(messages).map_err(Error::kernel("make bridge", &name))?;
        }
        let link =
            route::link(&mut self.route, &name).map_err(Error::kernel("look at bridge", &name))?;
        if !link.is_bridge {
            let reason = "a device of this name is there and is no bridge; take another name";
            return Err(Error::Name { what: "bridge", name, reason });
        }
        let index =
            route::index_of(&self.route, &name).map_err(Error::kernel("find bridge", &name))?;
        let bridge = Bridge { index, mtu: self.options.mtu.unwrap_or(link.mtu) };
        self.address_bridge(bridge)?;
        if !exists {
            self.take_pods_back(bridge)?;
        }
        self.bridge_changed();
        self.bridge = Some(bridge);
        Ok(bridge)
    }

    fn address_bridge(&mut self, bridge: Bridge) -> Result<(), Error> {
        prepare(&self.options.bridge);
        let mut messages = Messages::new();
        route::set_up(&mut messages, bridge.index);
        for subnet in self.subnets() {
            let gateway = IpNet::new(gateway_of(&subnet), subnet.prefix_len()).unwrap_or(subnet);
            route::add_address(&mut messages, bridge.index, gateway);
        }
        self.send_tolerating(messages, ErrorKind::AlreadyExists, "give addresses to bridge")
    }

    /// The pods of a bridge that was removed are connected to the new one.
    fn take_pods_back(&mut self, bridge: Bridge) -> Result<(), Error> {
        if self.leases.is_empty() {
            return Ok(());
        }
        let mut messages = Messages::new();
        for lease in self.leases.values() {
            route::add_port(&mut messages, &lease.link, bridge.index);
        }
        // A pod whose device is gone has ended.
        let refusals = self.route.send(messages);
        let refusals = refusals.map_err(Error::kernel("connect pods to", &self.options.bridge))?;
        if !refusals.is_empty() {
            tracing::debug!(refused = refusals.len(), "some pods are not on the new bridge");
        }
        Ok(())
    }

    fn send_tolerating(
        &mut self,
        messages: Messages,
        tolerated: ErrorKind,
        operation: &'static str,
    ) -> Result<(), Error> {
        let failed = |error| Error::kernel(operation, &self.options.bridge)(error);
        let refusals = self.route.send(messages).map_err(failed)?;
        match refusals.into_iter().find(|refusal| refusal.source.kind() != tolerated) {
            Some(refusal) => Err(failed(refusal.source)),
            None => Ok(()),
        }
    }

    fn leave_out_ipv6_without_kernel(&mut self) -> Result<(), Error> {
        let off = match read_sysctl("ipv6/conf/all/disable_ipv6") {
            Ok(value) => value != "0",
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        let is_v4 = |pool: &Pool| pool.subnet().addr().is_ipv4();
        let Some(ipv6) = self.pools.iter().find(|pool| off && !is_v4(pool)) else {
            return Ok(());
        };
        if !self.pools.iter().any(is_v4) {
            let reason = "the kernel has IPv6 turned off; turn it on or configure IPv4";
            return Err(Error::Subnet { subnet: ipv6.subnet(), reason });
        }
        self.pools.retain(is_v4);
        tracing::warn!("the kernel has IPv6 turned off; pods get IPv4 addresses only");
        Ok(())
    }

    /// The largest packet of the device behind the default route: pods that send larger
    /// ones would depend on everybody's answering them with ICMP.
    fn uplink_mtu(&mut self) -> Option<u32> {
        let table = fs::read_to_string("/proc/thread-self/net/route").ok()?;
        let device = table.lines().skip(1).find_map(|line| {
            let mut fields = line.split_whitespace();
            let (device, destination) = (fields.next()?, fields.next()?);
            let mask = fields.nth(5)?;
            (destination == "00000000" && mask == "00000000").then_some(device)
        })?;
        route::link(&mut self.route, device).ok().map(|link| link.mtu).filter(|mtu| *mtu > 0)
    }
}

/// The names of the bridge's ports; none when there is no bridge.
pub(super) fn ports(socket: &mut Socket, bridge: &str) -> Result<Vec<String>, Error> {
    let Ok(index) = route::index_of(socket, bridge) else { return Ok(Vec::new()) };
    let links = route::links(socket).map_err(Error::kernel("list the ports of", bridge))?;
    Ok(links.into_iter().filter(|link| link.master == index).map(|link| link.name).collect())
}

/// The first address of the subnet.
pub(super) fn gateway_of(subnet: &IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).saturating_add(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).saturating_add(1)).into(),
    }
}

fn allow_forwarding(ipv6: bool) -> Result<(), Error> {
    turn_on("ipv4/ip_forward")?;
    if ipv6 && read_sysctl("ipv6/conf/all/forwarding").is_ok_and(|value| value != "1") {
        keep_router_advertisements();
        turn_on("ipv6/conf/all/forwarding")?;
    }
    Ok(())
}

/// Written before the bridge is up. The host takes no routes from pods: neither advertisements
/// of routers nor redirects. And its link-local address, which nobody else has, can be used at
/// once: host ports of IPv6 would wait for it, for a packet that is translated while it is
/// bridged asks for its pod from there.
fn prepare(bridge: &str) {
    for (family, key) in [
        ("ipv6", "accept_ra"),
        ("ipv6", "accept_redirects"),
        ("ipv4", "accept_redirects"),
        ("ipv6", "accept_dad"),
    ] {
        let sysctl = format!("{family}/conf/{bridge}/{key}");
        match write_sysctl(&sysctl, "0") {
            // A kernel without this family.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(sysctl, %error, "a setting of the bridge stays as it is"),
            Ok(()) => {}
        }
    }
}

/// A route that a router has told (`RTF_ADDRCONF`, `linux/ipv6_route.h`).
const OF_ROUTER: u32 = 0x0004_0000;

/// A host that forwards IPv6 stops listening to its routers unless it is told to go on
/// (`accept_ra` 2), and would lose its own default route. Only devices that have a route of a
/// router are told so: any other may belong to somebody who must not give this host routes.
fn keep_router_advertisements() {
    let table = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let devices: BTreeSet<&str> = table.lines().filter_map(device_with_router).collect();
    for device in devices {
        let sysctl = format!("ipv6/conf/{device}/accept_ra");
        if read_sysctl(&sysctl).is_ok_and(|value| value == "1")
            && let Err(error) = write_sysctl(&sysctl, "2")
        {
            tracing::warn!(device, %error, "the host may lose its IPv6 default route");
        }
    }
}

/// The device of such a route, from a line of the table (proc_net(5)): flags and device are the
/// last of its ten fields.
fn device_with_router(line: &str) -> Option<&str> {
    let mut fields = line.split_whitespace().skip(8);
    let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
    fields.next().filter(|_| flags & OF_ROUTER != 0)
}

fn turn_on(sysctl: &str) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::kernel("turn on forwarding with", format!("sysctl net/{sysctl}"))(error)
    };
    if read_sysctl(sysctl).map_err(failed)? == "1" {
        return Ok(());
    }
    write_sysctl(sysctl, "1").map_err(failed)
}

fn bridge_mac(name: &str, salt: &str) -> [u8; 6] {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(name).finalize();
    let mut mac = [0xc2, 0x72, 0, 0, 0, 0];
    mac.iter_mut().skip(2).zip(digest.iter()).for_each(|(target, byte)| *target = *byte);
    mac
}
