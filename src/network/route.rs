//! The messages that make links, addresses and routes (rtnetlink(7)).

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use ipnet::IpNet;
use libc::{
    AF_INET, AF_INET6, AF_UNSPEC, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_IFNAME,
    IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_LINKINFO,
    IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES,
};

use super::netlink::{Messages, Socket, attributes, read_u32};

const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const DUMP: u16 = 0x300;
const UP: u32 = 0x1;
const LOWER_UP: u32 = 0x1_0000;

const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const BRIDGE_PORT_MODE: u16 = 4;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const NO_DUPLICATE_DETECTION: u32 = 0x2;

const NDA_DST: u16 = 1;

const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// The length of the fixed header of a link message.
pub(super) const LINK_HEADER: usize = 16;

/// A pair of connected devices: one a port of the bridge, one inside the pod.
pub(super) struct Veth<'a> {
    /// The end that stays.
    pub(super) host: &'a str,
    /// The index of the bridge.
    pub(super) bridge: u32,
    /// The namespace of the other end.
    pub(super) namespace: BorrowedFd<'a>,
    /// Its name.
    pub(super) peer: &'a str,
    /// Its hardware address.
    pub(super) mac: [u8; 6],
    /// Largest packet of both.
    pub(super) mtu: u32,
}

/// Adds the message that makes the pair, as a whole; the host's end is a port of the bridge,
/// and not up.
pub(super) fn add_veth(messages: &mut Messages, veth: &Veth<'_>) {
    messages.begin(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0));
    messages.put_text(IFLA_IFNAME, veth.host);
    messages.put(IFLA_MTU, &veth.mtu.to_ne_bytes());
    messages.put(IFLA_MASTER, &veth.bridge.to_ne_bytes());
    one_queue(messages);
    messages.nest(IFLA_LINKINFO, |info| {
        info.put(IFLA_INFO_KIND, b"veth");
        info.nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.raw(&link_header(0, 0));
                peer.put_text(IFLA_IFNAME, veth.peer);
                peer.put(IFLA_MTU, &veth.mtu.to_ne_bytes());
                peer.put(IFLA_ADDRESS, &veth.mac);
                one_queue(peer);
                peer.put(IFLA_NET_NS_FD, &veth.namespace.as_raw_fd().to_ne_bytes());
            });
        });
    });
}

/// Adds the message that makes a device which lets pass what it is sent, at its own pace.
pub(super) fn add_ifb(messages: &mut Messages, name: &str) {
    messages.begin(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, UP));
    messages.put_text(IFLA_IFNAME, name);
    one_queue(messages);
    messages.nest(IFLA_LINKINFO, |info| info.put(IFLA_INFO_KIND, b"ifb"));
}

/// The kernel would make a queue, with objects in sysfs, for each processor of each end.
/// The pair queues nothing, so that they would only cost time and memory.
fn one_queue(messages: &mut Messages) {
    messages.put(IFLA_NUM_TX_QUEUES, &1u32.to_ne_bytes());
    messages.put(IFLA_NUM_RX_QUEUES, &1u32.to_ne_bytes());
}

/// Adds the messages that make an existing link a port of the bridge.
pub(super) fn add_port(messages: &mut Messages, name: &str, bridge: u32) {
    messages.begin(libc::RTM_NEWLINK, 0, &link_header(0, 0));
    messages.put_text(IFLA_IFNAME, name);
    messages.put(IFLA_MASTER, &bridge.to_ne_bytes());
    configure_port(messages, name);
}

/// Adds the message that brings a port of the bridge up.
///
/// It gets no link-local address: nothing of the host listens there.
pub(super) fn configure_port(messages: &mut Messages, name: &str) {
    messages.begin(libc::RTM_NEWLINK, 0, &link_header(0, UP));
    messages.put_text(IFLA_IFNAME, name);
    messages.nest(IFLA_AF_SPEC, |families| {
        families.nest(AF_INET6 as u16, |inet6| {
            inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
        });
    });
    // Hairpin: a pod may reach itself through a host port although the kernel filters
    // bridged packets (br_netfilter) and so translates them before the bridge.
    messages.nest(IFLA_LINKINFO, |info| {
        info.put(IFLA_INFO_SLAVE_KIND, b"bridge");
        info.nest(IFLA_INFO_SLAVE_DATA, |port| port.put(BRIDGE_PORT_MODE, &[1]));
    });
}

/// Adds the message that makes a bridge, which is not up.
pub(super) fn add_bridge(messages: &mut Messages, name: &str, mac: [u8; 6], mtu: u32) {
    messages.begin(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0));
    messages.put_text(IFLA_IFNAME, name);
    messages.put(IFLA_MTU, &mtu.to_ne_bytes());
    // A bridge without an address of its own takes the lowest of its ports', which
    // changes as pods come and go and makes their neighbour entries stale.
    messages.put(IFLA_ADDRESS, &mac);
    messages.nest(IFLA_LINKINFO, |info| {
        info.put(IFLA_INFO_KIND, b"bridge");
        // Nobody asks pods for the groups that they listen to; they get what is sent to any.
        info.nest(IFLA_INFO_DATA, |data| data.put(IFLA_BR_MCAST_SNOOPING, &[0]));
    });
}

/// Adds the message that brings a link up.
pub(super) fn set_up(messages: &mut Messages, index: u32) {
    messages.begin(libc::RTM_NEWLINK, 0, &link_header(index, UP));
}

/// Adds the message that puts a link into a group.
pub(super) fn set_group(messages: &mut Messages, name: &str, group: u32) {
    messages.begin(libc::RTM_NEWLINK, 0, &link_header(0, 0));
    messages.put_text(IFLA_IFNAME, name);
    messages.put(IFLA_GROUP, &group.to_ne_bytes());
}

/// Adds the message that removes all links of a group in one go.
pub(super) fn delete_group(messages: &mut Messages, group: u32) {
    messages.begin(libc::RTM_DELLINK, 0, &link_header(0, 0));
    messages.put(IFLA_GROUP, &group.to_ne_bytes());
}

/// Adds the message that removes a link; a pair goes with either of its ends.
pub(super) fn delete_link(messages: &mut Messages, name: &str) {
    messages.begin(libc::RTM_DELLINK, 0, &link_header(0, 0));
    messages.put_text(IFLA_IFNAME, name);
}

/// Adds the message that gives a link an address, usable at once.
pub(super) fn add_address(messages: &mut Messages, index: u32, address: IpNet) {
    let mut header = [family(address.addr()), address.prefix_len(), 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    messages.begin(libc::RTM_NEWADDR, CREATE | EXCLUSIVE, &header);
    let bytes = octets(address.addr());
    messages.put(IFA_LOCAL, &bytes);
    messages.put(IFA_ADDRESS, &bytes);
    messages.put(IFA_FLAGS, &NO_DUPLICATE_DETECTION.to_ne_bytes());
}

/// Adds the message that makes the default route.
pub(super) fn add_default_route(messages: &mut Messages, index: u32, gateway: IpAddr) {
    let header = [
        family(gateway),
        0,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    messages.begin(libc::RTM_NEWROUTE, CREATE | EXCLUSIVE, &header);
    messages.put(RTA_OIF, &index.to_ne_bytes());
    messages.put(RTA_GATEWAY, &octets(gateway));
}

/// Adds the message that forgets where a neighbour is.
pub(super) fn delete_neighbour(messages: &mut Messages, index: u32, address: IpAddr) {
    let mut header = [family(address), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    messages.begin(libc::RTM_DELNEIGH, 0, &header);
    messages.put(NDA_DST, &octets(address));
}

/// The index of a link in the namespace of the socket (`SIOCGIFINDEX`).
pub(super) fn index_of(socket: &Socket, name: &str) -> io::Result<u32> {
    Ok(rustix::net::netdevice::name_to_index(socket.as_fd(), name)?)
}

/// What is asked about a link.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) mtu: u32,
    pub(super) master: u32,
    pub(super) is_bridge: bool,
    /// Whether anything is on the other side (`IFF_LOWER_UP`); a bridge without ports has none.
    pub(super) has_carrier: bool,
}

/// One link.
pub(super) fn link(socket: &mut Socket, name: &str) -> io::Result<Link> {
    let mut question = Messages::new();
    question.begin(libc::RTM_GETLINK, 0, &link_header(0, 0));
    question.put_text(IFLA_IFNAME, name);
    Ok(socket.ask(question)?.first().map(|body| parse_link(body)).unwrap_or_default())
}

/// All links.
pub(super) fn links(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let mut question = Messages::new();
    question.begin(libc::RTM_GETLINK, DUMP, &link_header(0, 0));
    Ok(socket.ask(question)?.iter().map(|body| parse_link(body)).collect())
}

fn parse_link(body: &[u8]) -> Link {
    let flags = read_u32(body, 8).unwrap_or_default();
    let mut link = Link { has_carrier: flags & LOWER_UP != 0, ..Link::default() };
    for (kind, payload) in attributes(body, LINK_HEADER) {
        match kind {
            IFLA_IFNAME => link.name = text(payload),
            IFLA_MTU => link.mtu = read_u32(payload, 0).unwrap_or_default(),
            IFLA_MASTER => link.master = read_u32(payload, 0).unwrap_or_default(),
            IFLA_LINKINFO => {
                link.is_bridge = attributes(payload, 0)
                    .any(|(kind, value)| kind == IFLA_INFO_KIND && text(value) == "bridge");
            }
            _ => {}
        }
    }
    link
}

fn text(payload: &[u8]) -> String {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    String::from_utf8_lossy(payload.get(..end).unwrap_or_default()).into_owned()
}

fn link_header(index: u32, flags: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[0] = AF_UNSPEC as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET as u8 } else { AF_INET6 as u8 }
}

/// The address as it stands in a packet.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
