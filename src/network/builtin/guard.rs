//! What may come out of a pod: packets with its own addresses as their source, and nothing
//! that makes others believe what is not so.
//!
//! A filter at the host's end of the pod's devices, one program of classic BPF with the pod's
//! addresses in it. It is not made of nftables because such tables are flushed by whoever
//! reloads a firewall; because it needs no entry that is to be removed when the pod goes; and
//! because it costs a packet the same however many pods there are. Ports of the bridge that
//! are isolated would keep pods of a node from each other, and a port that is locked knows
//! hardware addresses alone.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr},
};

use super::{
    super::{
        Error,
        netlink::{Messages, Socket},
        tc::{self, Instruction},
    },
    lease::Lease,
};

/// The number of the filter; what limits bandwidth comes after it.
const NUMBER: u16 = 1;

// What the program returns.
const DROP: u32 = 2;
const PASS: u32 = u32::MAX;

// Instructions (`linux/filter.h`): loads from the packet at an offset, or at X and an offset.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD_AT_X: u16 = 0x40;
const LOAD_BYTE_AT_X: u16 = 0x50;
const LOAD_KEPT: u16 = 0x60;
const KEEP: u16 = 0x02;
const X_BECOMES: u16 = 0x01;
const X_BECOMES_A: u16 = 0x07;
const ADD: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const SHIFT_LEFT: u16 = 0x64;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Whether the packet has a tag of a VLAN (`SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`).
const VLAN_TAG: u32 = 0xffff_f000 + 48;

// Where things are in a frame of Ethernet.
const SOURCE: u32 = 6;
const PROTOCOL: u32 = 12;
const PAYLOAD: u32 = 14;

const IPV4: u32 = 0x0800;
const ARP: u32 = 0x0806;
const IPV6: u32 = 0x86dd;

const ICMPV6: u32 = 58;
/// Hop-by-hop options, routing, destination options: something else follows them.
const EXTENSIONS: [u32; 3] = [0, 43, 60];
/// More of them in one packet have no use.
const MAX_EXTENSIONS: usize = 2;
/// Only routers say these: advertisement, redirect (RFC 4861).
const OF_ROUTERS: [u32; 2] = [134, 137];
/// Who listens to which groups: query, report, done, report of version 2 (RFC 2710, RFC 3810). The
/// kernel says several for each new address, and the bridge, which asks nobody, would bring each
/// to all pods: what a start costs would grow with the number of pods.
const OF_GROUPS: [u32; 4] = [130, 131, 132, 143];
const NEIGHBOUR_ADVERTISEMENT: u32 = 136;

/// Puts the filter on a device before it is up. Whether the kernel can.
pub(super) fn install(host: &mut Socket, device: u32, lease: &Lease) -> Result<bool, Error> {
    let mut messages = Messages::new();
    tc::add_filters(&mut messages, device);
    tc::add_program(&mut messages, device, NUMBER, &program(lease));
    match host.send_all(messages) {
        Err(error) if is_missing(&error) => Ok(false),
        other => other
            .map(|()| true)
            .map_err(Error::kernel("check the sources of", format!("device {}", lease.link))),
    }
}

/// A kernel without these parts of traffic control says so in one of these ways.
pub(super) fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

/// The program for a pod.
fn program(lease: &Lease) -> Vec<Instruction> {
    let ipv4 = lease.ips().find_map(|ip| match ip {
        IpAddr::V4(v4) => Some(u32::from(v4)),
        IpAddr::V6(_) => None,
    });
    let ipv6 = lease.ips().find_map(|ip| match ip {
        IpAddr::V6(v6) => Some(v6),
        IpAddr::V4(_) => None,
    });
    let mac = lease.mac();
    let mut program = Program::default();
    program.load(LOAD_WORD, VLAN_TAG);
    program.require(0);
    program.require_mac(SOURCE, mac);
    program.load(LOAD_HALF, PROTOCOL);
    program.if_equal(IPV6, "IPv6");
    if let Some(ipv4) = ipv4 {
        program.if_equal(IPV4, "IPv4");
        program.require(ARP);
        program.arp(ipv4, mac);
        program.label("IPv4");
        program.ipv4(ipv4);
    } else {
        program.go("drop");
    }
    program.label("IPv6");
    program.ipv6(ipv6.as_slice(), link_local(mac));
    program.finish()
}

/// The address that the kernel makes of a hardware address (RFC 4291, appendix A).
pub(super) fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Where a comparison goes on.
#[derive(Debug, Clone, Copy)]
enum To {
    Next,
    /// Past so many instructions.
    Over(u8),
    Label(&'static str),
}

/// A program whose jumps are names for now.
#[derive(Default)]
struct Program {
    instructions: Vec<(u16, u32, [To; 2])>,
    labels: Vec<(&'static str, usize)>,
}

impl Program {
    fn load(&mut self, code: u16, offset: u32) {
        self.instructions.push((code, offset, [To::Next; 2]));
    }

    /// Goes on at one of two places: where what was loaded last has this value, or else.
    fn compare(&mut self, value: u32, equal: To, otherwise: To) {
        self.instructions.push((JUMP_IF_EQUAL, value, [equal, otherwise]));
    }

    fn if_equal(&mut self, value: u32, label: &'static str) {
        self.compare(value, To::Label(label), To::Next);
    }

    fn go(&mut self, label: &'static str) {
        self.instructions.push((JUMP, 0, [To::Label(label); 2]));
    }

    /// Drops the packet unless what was loaded last has this value.
    fn require(&mut self, value: u32) {
        self.compare(value, To::Next, To::Label("drop"));
    }

    fn label(&mut self, label: &'static str) {
        self.labels.push((label, self.instructions.len()));
    }

    fn require_mac(&mut self, offset: u32, mac: [u8; 6]) {
        let [a, b, c, d, e, f] = mac;
        self.load(LOAD_WORD, offset);
        self.require(u32::from_be_bytes([a, b, c, d]));
        self.load(LOAD_HALF, offset + 4);
        self.require(u32::from(u16::from_be_bytes([e, f])));
    }

    /// The pod's address; nothing of the host's loopback, whatever its settings are.
    fn ipv4(&mut self, own: u32) {
        self.load(LOAD_WORD, PAYLOAD + 12);
        self.require(own);
        self.load(LOAD_BYTE, PAYLOAD + 16);
        self.if_equal(127, "drop");
        self.go("pass");
    }

    /// A question or an answer about nobody but the pod; one who looks whether an address is
    /// in use has none yet. Addresses of other lengths are dropped by who receives them.
    fn arp(&mut self, own: u32, mac: [u8; 6]) {
        self.require_mac(PAYLOAD + 8, mac);
        self.load(LOAD_WORD, PAYLOAD + 14);
        self.if_equal(own, "pass");
        self.require(0);
        self.go("pass");
    }

    /// The pod's addresses, or none yet; of neighbour discovery nothing that only routers say,
    /// and advertisements of its own addresses alone, behind whatever headers they hide.
    fn ipv6(&mut self, own: &[Ipv6Addr], link_local: Ipv6Addr) {
        let mine: Vec<Ipv6Addr> = own.iter().copied().chain([link_local]).collect();
        let sources = mine.iter().copied().chain([Ipv6Addr::UNSPECIFIED]);
        self.require_one_of(LOAD_WORD, PAYLOAD + 8, sources, "source");
        self.load(X_BECOMES, PAYLOAD + 40);
        self.load(LOAD_BYTE, PAYLOAD + 6);
        for _ in 0..MAX_EXTENSIONS {
            self.if_equal(ICMPV6, "ICMPv6");
            // Past the jump to the end.
            for (extension, over) in EXTENSIONS.into_iter().zip([3, 2, 1]) {
                self.compare(extension, To::Over(over), To::Next);
            }
            self.go("pass");
            self.load(LOAD_BYTE_AT_X, 0);
            self.load(KEEP, 0);
            self.load(LOAD_BYTE_AT_X, 1);
            self.load(ADD, 1);
            self.load(SHIFT_LEFT, 3);
            self.load(ADD_X, 0);
            self.load(X_BECOMES_A, 0);
            self.load(LOAD_KEPT, 0);
        }
        self.if_equal(ICMPV6, "ICMPv6");
        for extension in EXTENSIONS {
            self.if_equal(extension, "drop");
        }
        self.go("pass");
        self.label("ICMPv6");
        self.load(LOAD_BYTE_AT_X, 0);
        for kind in OF_ROUTERS.into_iter().chain(OF_GROUPS) {
            self.if_equal(kind, "drop");
        }
        self.compare(NEIGHBOUR_ADVERTISEMENT, To::Next, To::Label("pass"));
        self.require_one_of(LOAD_WORD_AT_X, 8, mine.into_iter(), "target");
        self.go("pass");
    }

    /// Drops the packet unless one of these addresses is there; goes on at the label.
    fn require_one_of(
        &mut self,
        load: u16,
        offset: u32,
        addresses: impl Iterator<Item = Ipv6Addr>,
        label: &'static str,
    ) {
        // Loads from the packet are what the kernel's compiler takes its time for, with each
        // start of a pod: they are kept.
        for slot in 0..4 {
            self.load(load, offset + 4 * slot);
            self.load(KEEP, slot);
        }
        for address in addresses {
            let [a, b, c, d] = words_of(address);
            // A word that differs leads to the next address: past what is left of this one.
            for (slot, word, left) in [(0, a, 6), (1, b, 4), (2, c, 2)] {
                self.load(LOAD_KEPT, slot);
                self.compare(word, To::Next, To::Over(left));
            }
            self.load(LOAD_KEPT, 3);
            self.if_equal(d, label);
        }
        self.go("drop");
        self.label(label);
    }

    /// Puts distances in the place of names.
    fn finish(mut self) -> Vec<Instruction> {
        self.label("drop");
        self.load(RETURN, DROP);
        self.label("pass");
        self.load(RETURN, PASS);
        let distance = |index: usize, to: To| match to {
            To::Next => 0,
            To::Over(count) => u32::from(count),
            To::Label(label) => {
                let at = self.labels.iter().find(|(name, _)| *name == label);
                let at = at.map_or(0, |(_, at)| *at);
                u32::try_from(at.saturating_sub(index + 1)).unwrap_or(u32::MAX)
            }
        };
        // The kernel refuses a program with a jump that leads out of it.
        let short = |distance: u32| u8::try_from(distance).unwrap_or(u8::MAX);
        let resolve = |(index, (code, operand, to)): (usize, &(u16, u32, [To; 2]))| {
            let [if_true, if_false] = to.map(|to| distance(index, to));
            match *code {
                JUMP => Instruction { code: JUMP, if_true: 0, if_false: 0, operand: if_true },
                code => Instruction {
                    code,
                    if_true: short(if_true),
                    if_false: short(if_false),
                    operand: *operand,
                },
            }
        };
        self.instructions.iter().enumerate().map(resolve).collect()
    }
}

fn words_of(address: Ipv6Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
    [a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h]
}

#[cfg(test)]
mod tests {
    use super::{JUMP, JUMP_IF_EQUAL, Lease, link_local, program};

    #[test]
    fn every_jump_ends_inside_of_the_program() {
        for addresses in [&["10.1.0.2/16", "fd00::2/64"][..], &["10.1.0.2/16"], &["fd00::2/64"]] {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let program = program(&Lease { addresses, ..Lease::default() });
            assert!(program.len() < 255, "{} instructions", program.len());
            for (index, one) in program.iter().enumerate() {
                let far = match one.code {
                    JUMP => one.operand as usize,
                    JUMP_IF_EQUAL => one.if_true.max(one.if_false).into(),
                    _ => 0,
                };
                assert!(index + far + 1 < program.len() || far == 0, "{index}: {one:?}");
            }
        }
    }

    #[test]
    fn link_local_addresses_are_those_of_the_kernel() {
        let address = link_local([0xc2, 0x71, 10, 88, 0, 2]);
        assert_eq!(address.to_string(), "fe80::c071:aff:fe58:2");
    }
}
