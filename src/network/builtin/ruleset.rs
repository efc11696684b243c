//! The rules of the built-in network, in a table of their own.
//!
//! ```text
//! guard        drops what the bridge sends to the host's 127.0.0.0/8
//! incoming,    destination is an address of the host?   ─► hostports
//! own          (packets of others; of the host itself)
//! hostports    port of UDP               ─► udp          set of all that was ever asked for
//!              (address, protocol, port) ─► pod          map of one host address
//!              (protocol, port)          ─► pod          map of all of them
//! outgoing     pods to elsewhere; pods to pods and the host's loopback through a host
//!              port: with the address of the host
//! ```
//!
//! Host ports are elements of maps: a pod adds and removes its own by key, whatever
//! else is in the table, and the cost for a packet does not grow with their number.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net};

use super::{
    super::{
        netlink::{Refusal, Socket},
        request::Protocol,
        route::octets,
    },
    nftables::{
        Expression::{self, *},
        FIRST_REGISTER, Hook, Transaction, element_exists, elements_of, table_exists,
    },
};

const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_NETWORK_PROTOCOL: u32 = 15;
const META_TRANSPORT_PROTOCOL: u32 = 16;
const LOCAL_ADDRESS: u32 = 2;
const DESTINATION_CHANGED: u32 = 0x20;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const LOOPBACK_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

/// Of one host address and of all of them, for IPv4 and IPv6.
const MAPS: [&str; 4] = ["one4", "one6", "any4", "any6"];

const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;

/// The set of ports.
const UDP_PORTS: &str = "udp";

/// A host port of one address family as it stands in a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort {
    /// The transport protocol.
    pub(super) protocol: Protocol,
    /// The port of the host.
    pub(super) port: u16,
    /// The address of the host; none for all of them.
    pub(super) host: Option<IpAddr>,
    /// The pod and its port.
    pub(super) target: (IpAddr, u16),
}

/// An element of a map, whatever it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Element {
    map: &'static str,
    key: Vec<u8>,
}

impl Element {
    /// That of a host port.
    pub(super) fn of(port: &HostPort) -> Self {
        Self { map: map_of(port), key: key_of(port) }
    }

    /// As nft(8) would show it: `table/map address . protocol . port`.
    pub(super) fn name(&self, table: &str) -> String {
        // Protocol and port come last, in four bytes each.
        let (host, service) = self.key.split_at(self.key.len().saturating_sub(8));
        let address = match (<[u8; 4]>::try_from(host), <[u8; 16]>::try_from(host)) {
            (Ok(v4), _) => format!("{} . ", Ipv4Addr::from(v4)),
            (_, Ok(v6)) => format!("{} . ", Ipv6Addr::from(v6)),
            _ => String::new(),
        };
        let byte = |at: usize| service.get(at).copied().unwrap_or_default();
        let port = u16::from_be_bytes([byte(4), byte(5)]);
        format!("{table}/{} {address}{} . {port}", self.map, protocol_name(byte(0)))
    }
}

fn protocol_name(number: u8) -> String {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let name = known.into_iter().find(|one| one.number() == number).map(Protocol::name);
    name.map_or_else(|| number.to_string(), str::to_owned)
}

/// The elements of all maps.
pub(super) fn elements(socket: &mut Socket, table: &str) -> io::Result<Vec<Element>> {
    let mut elements = Vec::new();
    for map in MAPS {
        let keys = elements_of(socket, table, map)?;
        elements.extend(keys.into_iter().map(|key| Element { map, key }));
    }
    Ok(elements)
}

/// Removes an element; one that is not there is no error.
pub(super) fn remove_element(
    socket: &mut Socket,
    table: &str,
    element: &Element,
) -> io::Result<()> {
    let mut transaction = Transaction::begin(table);
    transaction.delete_element(element.map, &element.key);
    match first_error(transaction.commit(socket)?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the table anew, as a whole, with the host ports given; what was in it is gone in
/// the same instant. Connections that are under way go on.
pub(super) fn rebuild(
    socket: &mut Socket,
    table: &str,
    bridge: &str,
    masquerade: &[IpNet],
    subnets: &[IpNet],
    ports: &[HostPort],
) -> io::Result<()> {
    let mut transaction = Transaction::begin(table);
    transaction.add_table();
    transaction.delete_table();
    transaction.add_table();
    add_chains(&mut transaction);
    add_guard(&mut transaction, bridge);
    add_host_port_rules(&mut transaction);
    add_source_rules(&mut transaction, bridge, masquerade, subnets);
    for port in ports {
        add_port(&mut transaction, port);
    }
    first_error(transaction.commit(socket)?)
}

/// Adds host ports.
pub(super) fn add(socket: &mut Socket, table: &str, ports: &[HostPort]) -> io::Result<()> {
    let mut transaction = Transaction::begin(table);
    ports.iter().for_each(|port| add_port(&mut transaction, port));
    first_error(transaction.commit(socket)?)
}

/// Removes host ports; those that are not there are no error.
pub(super) fn remove(socket: &mut Socket, table: &str, ports: &[HostPort]) -> io::Result<()> {
    // One transaction each: a missing element would undo the removal of the others.
    ports.iter().try_for_each(|port| remove_element(socket, table, &Element::of(port)))
}

/// Whether the table is there.
pub(super) fn exists(socket: &mut Socket, table: &str) -> io::Result<bool> {
    table_exists(socket, table)
}

/// Adds ports of the host that UDP clients are known to send to.
pub(super) fn remember(socket: &mut Socket, table: &str, ports: &[u16]) -> io::Result<()> {
    // What one transaction's message has room for.
    for ports in ports.chunks(256) {
        let mut transaction = Transaction::begin(table);
        for port in ports {
            transaction.add_member(UDP_PORTS, &port.to_be_bytes());
        }
        first_error(transaction.commit(socket)?)?;
    }
    Ok(())
}

/// Whether a UDP client may have sent to the port since the table was made, and since this was
/// asked the last time. Without the table nobody knows.
pub(super) fn take_asked(socket: &mut Socket, table: &str, port: u16) -> io::Result<bool> {
    let key = port.to_be_bytes();
    if !element_exists(socket, table, UDP_PORTS, &key)? {
        return Ok(!table_exists(socket, table)?);
    }
    let mut transaction = Transaction::begin(table);
    transaction.delete_element(UDP_PORTS, &key);
    first_error(transaction.commit(socket)?).map(|()| true)
}

/// Removes the table with all that is in it.
pub(super) fn destroy(socket: &mut Socket, table: &str) -> io::Result<()> {
    let mut transaction = Transaction::begin(table);
    transaction.add_table();
    transaction.delete_table();
    first_error(transaction.commit(socket)?)
}

fn add_chains(transaction: &mut Transaction<'_>) {
    let hook = |kind, number, priority| Hook { kind, number, priority };
    transaction.add_chain("guard", Some(&hook("filter", 0, -300)));
    transaction.add_chain("incoming", Some(&hook("nat", 0, -100)));
    transaction.add_chain("own", Some(&hook("nat", 3, -100)));
    transaction.add_chain("outgoing", Some(&hook("nat", 4, 100)));
    transaction.add_chain("hostports", None);
    let concatenate = |types: &[u32]| types.iter().fold(0, |sum, kind| sum << 6 | kind);
    for (name, address, length) in [("4", TYPE_IPV4, 4), ("6", TYPE_IPV6, 16)] {
        let value = (concatenate(&[address, TYPE_PORT]), length + 4);
        let one = (concatenate(&[address, TYPE_PROTOCOL, TYPE_PORT]), length + 8);
        let any = (concatenate(&[TYPE_PROTOCOL, TYPE_PORT]), 8);
        transaction.add_map(&format!("one{name}"), one, value);
        transaction.add_map(&format!("any{name}"), any, value);
    }
    transaction.add_memory(UDP_PORTS, (TYPE_PORT, 2));
}

/// Host ports on 127.0.0.1 need `route_localnet` on the bridge. Without this rule a pod
/// could then reach what listens on the loopback of the host only.
fn add_guard(transaction: &mut Transaction<'_>, bridge: &str) {
    let name = interface_name(bridge);
    let mut rule = vec![Meta(META_INPUT_NAME, 8), Equal(8, &name)];
    rule.extend(is_family(&[2]));
    rule.extend([Payload(NETWORK_HEADER, 16, 1, 8), Equal(8, &[127]), Drop]);
    transaction.add_rule("guard", &rule);
}

fn add_host_port_rules(transaction: &mut Transaction<'_>) {
    let local = LOCAL_ADDRESS.to_ne_bytes();
    for chain in ["incoming", "own"] {
        let rule = [DestinationType(8), Equal(8, &local), Jump("hostports")];
        transaction.add_rule(chain, &rule);
    }
    // Chains of translation see the first packet of a connection.
    transaction.add_rule(
        "hostports",
        &[
            Meta(META_TRANSPORT_PROTOCOL, FIRST_REGISTER),
            Equal(FIRST_REGISTER, &[Protocol::Udp.number()]),
            Payload(TRANSPORT_HEADER, 2, 2, FIRST_REGISTER),
            Remember(UDP_PORTS, FIRST_REGISTER),
        ],
    );
    let loopback_v6 = Ipv6Addr::LOCALHOST.octets();
    for (family, map_one, map_any, offset, length) in
        [([2], "one4", "any4", 16, 4), ([10], "one6", "any6", 24, 16)]
    {
        let slots = length / 4;
        let [one, any] = [FIRST_REGISTER + slots, FIRST_REGISTER];
        let port = FIRST_REGISTER + slots;
        let mut rule: Vec<Expression<'_>> = is_family(&family).into();
        rule.push(Payload(NETWORK_HEADER, offset, length, FIRST_REGISTER));
        rule.extend(service(one));
        rule.push(Lookup(map_one, FIRST_REGISTER, FIRST_REGISTER));
        rule.push(ChangeDestination(family[0], FIRST_REGISTER, port));
        transaction.add_rule("hostports", &rule);

        let mut rule: Vec<Expression<'_>> = is_family(&family).into();
        if family == [10] {
            // Unlike 127.0.0.1 it cannot leave the host: better refused than lost.
            rule.push(Payload(NETWORK_HEADER, offset, length, FIRST_REGISTER));
            rule.push(Unequal(FIRST_REGISTER, &loopback_v6));
        }
        rule.extend(service(any));
        rule.push(Lookup(map_any, FIRST_REGISTER, FIRST_REGISTER));
        rule.push(ChangeDestination(family[0], FIRST_REGISTER, port));
        transaction.add_rule("hostports", &rule);
    }
}

fn add_source_rules(
    transaction: &mut Transaction<'_>,
    bridge: &str,
    masquerade: &[IpNet],
    subnets: &[IpNet],
) {
    let name = interface_name(bridge);
    let changed = DESTINATION_CHANGED.to_ne_bytes();
    let loopback = [IpNet::V4(LOOPBACK_V4)];
    // A pod that comes back to the bridge through a host port must get its answers
    // through the host as well, not from the other pod directly.
    for subnet in subnets.iter().chain(&loopback) {
        let parts = SourceMatch::new(*subnet);
        let mut rule = vec![Meta(META_OUTPUT_NAME, 8), Equal(8, &name)];
        rule.extend([ConnectionStatus(8), And(8, &changed), Unequal(8, &[0; 4])]);
        rule.extend(parts.expressions());
        rule.push(Masquerade);
        transaction.add_rule("outgoing", &rule);
    }
    for subnet in masquerade {
        let parts = SourceMatch::new(*subnet);
        let mut rule = vec![Meta(META_OUTPUT_NAME, 8), Unequal(8, &name)];
        rule.extend(parts.expressions());
        rule.push(Masquerade);
        transaction.add_rule("outgoing", &rule);
    }
}

/// The comparison of a packet's source with a subnet.
struct SourceMatch {
    family: [u8; 1],
    offset: u32,
    mask: Vec<u8>,
    network: Vec<u8>,
}

impl SourceMatch {
    fn new(subnet: IpNet) -> Self {
        let (family, offset) = if subnet.addr().is_ipv4() { ([2], 12) } else { ([10], 8) };
        let (mask, network) = (octets(subnet.netmask()), octets(subnet.network()));
        Self { family, offset, mask, network }
    }

    fn expressions(&self) -> [Expression<'_>; 5] {
        let length = if self.mask.len() == 4 { 4 } else { 16 };
        let [family, version] = is_family(&self.family);
        let load = Payload(NETWORK_HEADER, self.offset, length, FIRST_REGISTER);
        let mask = And(FIRST_REGISTER, &self.mask);
        [family, version, load, mask, Equal(FIRST_REGISTER, &self.network)]
    }
}

fn is_family(family: &[u8; 1]) -> [Expression<'_>; 2] {
    [Meta(META_NETWORK_PROTOCOL, FIRST_REGISTER), Equal(FIRST_REGISTER, family)]
}

fn service(register: u32) -> [Expression<'static>; 2] {
    [Meta(META_TRANSPORT_PROTOCOL, register), Payload(TRANSPORT_HEADER, 2, 2, register + 1)]
}

fn add_port(transaction: &mut Transaction<'_>, port: &HostPort) {
    let (address, target) = port.target;
    let value = [octets(address), padded(&target.to_be_bytes())].concat();
    transaction.add_element(map_of(port), &key_of(port), &value);
}

fn map_of(port: &HostPort) -> &'static str {
    match (port.host.is_some(), port.target.0.is_ipv4()) {
        (true, true) => "one4",
        (true, false) => "one6",
        (false, true) => "any4",
        (false, false) => "any6",
    }
}

fn key_of(port: &HostPort) -> Vec<u8> {
    let host = port.host.map(octets).unwrap_or_default();
    [host, padded(&[port.protocol.number()]), padded(&port.port.to_be_bytes())].concat()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(4, 0);
    padded
}

/// An interface's name as the kernel compares it: 16 bytes.
fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn first_error(refusals: Vec<Refusal>) -> io::Result<()> {
    refusals.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.source))
}
