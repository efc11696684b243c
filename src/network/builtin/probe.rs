//! Whether this node can carry the built-in network: its steps are tried in an empty
//! network namespace, and the host's firewall is asked whether it would drop their packets.
//!
//! All of these work on the network namespace of the calling thread.

use std::io::{self, ErrorKind};

use super::{
    super::{
        Error, Options, namespace,
        netlink::{Messages, Socket, attributes, read_u32},
        route::{self, Veth},
    },
    guard,
    lease::Lease,
    ruleset, shaper,
};

const DUMP: u16 = 0x300;
const GET_CHAINS: u16 = 10 << 8 | 4;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
/// `NFPROTO_INET`, `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];

/// The device names that are made here; nothing else has them in an empty namespace.
const BRIDGE: &str = "probe0";
const PORT: &str = "probe1";

/// Makes a bridge.
///
/// # Errors
/// The kernel's refusal.
pub fn try_bridge() -> io::Result<()> {
    let mut messages = Messages::new();
    route::add_bridge(&mut messages, BRIDGE, [2, 0, 0, 0, 0, 1], 1500);
    Socket::route()?.send_all(messages)
}

/// Makes a pair of devices with one end on the bridge of [`try_bridge`].
///
/// # Errors
/// The kernel's refusal.
pub fn try_veth() -> io::Result<()> {
    let mut socket = Socket::route()?;
    let bridge = route::index_of(&socket, BRIDGE)?;
    let namespace = namespace::current()?;
    let mut messages = Messages::new();
    let veth = Veth {
        host: PORT,
        bridge,
        namespace: std::os::fd::AsFd::as_fd(&namespace),
        peer: "probe2",
        mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
    };
    route::add_veth(&mut messages, &veth);
    socket.send_all(messages)
}

/// Puts the filter of a pod's sources on the device of [`try_veth`].
///
/// # Errors
/// The kernel's refusal, also that it has no such filters.
pub fn try_source_check() -> io::Result<()> {
    let mut socket = Socket::route()?;
    let device = route::index_of(&socket, PORT)?;
    let lease = Lease { link: PORT.to_owned(), ..Lease::default() };
    match guard::install(&mut socket, device, &lease) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ErrorKind::NotFound.into()),
        Err(Error::Kernel { source, .. }) => Err(source),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Limits the bandwidth of that device in both directions, after [`try_source_check`].
///
/// # Errors
/// The kernel's refusal.
pub fn try_bandwidth(has_filters: bool) -> io::Result<()> {
    let mut socket = Socket::route()?;
    let device = route::index_of(&socket, PORT)?;
    let rate = Some(1_000_000);
    let lease = Lease { link: PORT.to_owned(), ingress: rate, egress: rate, ..Lease::default() };
    match shaper::limit(&mut socket, device, &lease, has_filters) {
        Err(Error::Bandwidth { source }) => Err(source),
        other => other.map_err(io::Error::other),
    }
}

/// Makes the rules of the network as they are configured.
///
/// # Errors
/// The kernel's refusal.
pub fn try_rules(options: &Options) -> io::Result<()> {
    let subnets = options.subnets();
    let masquerade = if options.masquerade { subnets.clone() } else { Vec::new() };
    let mut socket = Socket::netfilter()?;
    ruleset::rebuild(&mut socket, &options.name_prefix, BRIDGE, &masquerade, &subnets, &[])
}

/// The chains of nftables (and so of iptables-nft) that drop forwarded packets unless a rule
/// accepts them, as `family table chain`.
///
/// # Errors
/// When the kernel has no nftables, or refuses the question.
pub fn dropping_forward_chains() -> io::Result<Vec<String>> {
    let mut question = Messages::new();
    question.begin(GET_CHAINS, DUMP, &[0; 4]);
    let answers = Socket::netfilter()?.ask(question)?;
    Ok(answers.iter().filter_map(|body| dropping_chain(body)).collect())
}

fn dropping_chain(body: &[u8]) -> Option<String> {
    let family = FAMILIES.iter().find(|(number, _)| body.first() == Some(number))?.1;
    let find = |wanted: u16| attributes(body, 4).find(|(kind, _)| *kind == wanted);
    let number = |payload: &[u8]| read_u32(payload, 0).map(u32::from_be);
    let (_, hook) = find(CHAIN_HOOK)?;
    let (_, hook) = attributes(hook, 0).find(|(kind, _)| *kind == 1)?;
    let (_, policy) = find(CHAIN_POLICY)?;
    if number(hook) != Some(HOOK_FORWARD) || number(policy) != Some(POLICY_DROP) {
        return None;
    }
    let text = |wanted| {
        let (_, payload) = find(wanted)?;
        Some(String::from_utf8_lossy(payload.strip_suffix(&[0]).unwrap_or(payload)).into_owned())
    };
    Some(format!("{family} {} {}", text(CHAIN_TABLE)?, text(CHAIN_NAME)?))
}
