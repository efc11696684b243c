//! What a pod of the built-in network tries in order to be somebody else, or to tell the host
//! and other pods where to send. Frames are made by hand, by a script, in the pod's namespace.
//!
//! What does not arrive is known by what is sent after it and does.

use std::{
    fs,
    net::UdpSocket,
    process::{Command, Output, Stdio},
    time::Duration,
};

use super::{
    bridge::connect_to_world,
    harness::{Host, Pod, block_on, eventually, on_a_host},
};
use crate::network::{Protocol, builtin::destroy_table, namespace};

/// Functions for scripts: frames of Ethernet, sent with the pod's or another source.
const FRAMES: &str = r#"
import socket, struct, ipaddress
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
own = link.getsockname()[4]
everybody = b"\xff" * 6
def total(data):
    if len(data) % 2: data += b"\0"
    sum = 0
    for (word,) in struct.iter_unpack("!H", data): sum += word
    while sum >> 16: sum = (sum & 0xffff) + (sum >> 16)
    return ~sum & 0xffff
def packed(address): return ipaddress.ip_address(address).packed
def udp4(source, target, port, text, mac=None, tag=b""):
    udp = struct.pack("!HHHH", 9, port, 8 + len(text), 0) + text
    head = lambda sum: struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, sum) \
        + packed(source) + packed(target)
    link.send(everybody + (mac or own) + tag + b"\x08\x00" + head(total(head(0))) + udp)
def ipv6(source, target, kind, payload, before=b"", mac=None, to=everybody):
    first = 0 if before else kind
    head = struct.pack("!IHBB", 6 << 28, len(before) + len(payload), first, 255)
    link.send(to + (mac or own) + b"\x86\xdd" + head + packed(source) + packed(target) + before + payload)
def summed(source, target, kind, payload, at):
    pseudo = packed(source) + packed(target) + struct.pack("!II", len(payload), kind)
    return payload[:at] + struct.pack("!H", total(pseudo + payload)) + payload[at + 2:]
def udp6(source, target, port, text):
    udp = struct.pack("!HHHH", 9, port, 8 + len(text), 0) + text
    ipv6(source, target, 17, summed(source, target, 17, udp, 6))
def icmp6(source, target, payload, before=b""):
    to = b"\x33\x33" + packed(target)[12:] if target.startswith("ff") else everybody
    ipv6(source, target, 58, summed(source, target, 58, payload, 2), before, to=to)
def advertise(source, target, address, before=b""):
    icmp6(source, target, b"\x88\0\0\0\x20\0\0\0" + packed(address) + b"\x02\x01" + own, before)
def router(source):
    prefix = b"\x03\x04\x40\xc0" + struct.pack("!III", 3600, 3600, 0) + packed("2001:db8:bad::")
    icmp6(source, "ff02::1", b"\x86\0\0\0\x40\0\x0e\x10" + b"\0" * 8 + prefix)
def link_local(mac):
    return str(ipaddress.ip_address(b"\xfe\x80" + b"\0" * 6 + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]))
def arp(hardware, address, target):
    link.send(everybody + own + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 2)
        + hardware + packed(address) + everybody + packed(target))
"#;

/// Runs a script in the pod; whether there is a Python for it.
fn attack(pod: &Pod, script: &str) -> bool {
    let script = format!("{FRAMES}\n{script}");
    let run = move || Command::new("python3").args(["-c", &script]).stdout(Stdio::null()).output();
    match pod.inside(run) {
        Ok(Output { status, stderr, .. }) => {
            assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
            true
        }
        Err(error) => {
            eprintln!("SKIPPED: python3: {error}");
            false
        }
    }
}

/// A socket of the host or a pod that tells what it receives.
struct Listener(UdpSocket);

impl Listener {
    fn of(socket: std::io::Result<UdpSocket>) -> Self {
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 64];
        let length = self.0.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }
}

fn two_pods(host: &Host) -> (Pod, Pod) {
    let (attacker, victim) = (Pod::new("attacker"), Pod::new("victim"));
    let first = host.set_up(&attacker);
    assert_eq!(first.ips[0].to_string(), "10.88.0.2");
    host.set_up(&victim);
    (attacker, victim)
}

/// Sources that are not the pod's, and then one that is.
const SPOOF: &str = r#"
udp4("10.88.0.99", "10.88.0.3", 5000, b"another address")
udp4("10.88.0.1", "10.88.0.3", 5000, b"the gateway")
udp4("10.88.0.2", "10.88.0.3", 5000, b"another station", mac=b"\xc2\x71\x0a\x58\0\x63")
udp4("10.88.0.2", "10.88.0.3", 5000, b"a tag", tag=b"\x81\0\0\x05")
udp4("10.88.0.2", "10.88.0.3", 5000, b"two tags", tag=b"\x81\0\0\x05\x81\0\0\x06")
udp6("fd4a:6b1d:88::99", "fd4a:6b1d:88::3", 5000, b"another IPv6 address")
udp6("fe80::1", "fd4a:6b1d:88::3", 5000, b"another local address")
udp6("fd4a:6b1d:88::2", "fd4a:6b1d:88::3", 5000, b"own IPv6")
udp4("10.88.0.2", "10.88.0.3", 5000, b"own")
"#;

#[test]
fn a_pod_sends_with_no_other_source_than_its_own() {
    on_a_host(|| {
        let host = Host::new();
        let (attacker, victim) = two_pods(&host);
        let listener = Listener::of(victim.inside(|| UdpSocket::bind("[::]:5000")));
        if attack(&attacker, SPOOF) {
            assert_eq!([listener.next(), listener.next()], ["own IPv6", "own"]);
        }
    });
    // The same frames arrive where nobody checks them.
    on_a_host(|| {
        let host = Host::with(|options| options.source_check = false);
        let (attacker, victim) = two_pods(&host);
        let listener = Listener::of(victim.inside(|| UdpSocket::bind("[::]:5000")));
        if attack(&attacker, SPOOF) {
            assert_eq!(listener.next(), "another address");
        }
    });
}

#[test]
fn a_pod_speaks_for_nobody_else_in_arp_and_neighbour_discovery() {
    on_a_host(|| {
        let host = Host::new();
        let (attacker, victim) = two_pods(&host);
        let listener = Listener::of(victim.inside(|| UdpSocket::bind("[::]:5000")));
        let gateway = UdpSocket::bind("[::]:5001").unwrap();
        // So that the victim has entries that somebody could change.
        let ask = || {
            victim.inside(|| {
                let socket = UdpSocket::bind("[::]:0").unwrap();
                socket.send_to(b"?", "[::ffff:10.88.0.1]:5001").unwrap();
                socket.send_to(b"?", "[fd4a:6b1d:88::1]:5001").unwrap();
            });
            let mut bytes = [0; 8];
            gateway.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            [gateway.recv(&mut bytes).unwrap(), gateway.recv(&mut bytes).unwrap()]
        };
        ask();
        let script = r#"
gateway = "fd4a:6b1d:88::1"
arp(own, "10.88.0.1", "10.88.0.3")
advertise("fd4a:6b1d:88::2", "fd4a:6b1d:88::3", gateway)
advertise("fd4a:6b1d:88::2", "fd4a:6b1d:88::3", gateway, before=b"\x3a\0\x01\x04\0\0\0\0")
advertise("fd4a:6b1d:88::2", "fd4a:6b1d:88::3", gateway, before=b"\0\0\x01\x04\0\0\0\0\x3a\0\x01\x04\0\0\0\0")
advertise(link_local(own), "fd4a:6b1d:88::3", gateway)
udp4("10.88.0.2", "10.88.0.3", 5000, b"end")
"#;
        if !attack(&attacker, script) {
            return;
        }
        assert_eq!(listener.next(), "end");
        assert_eq!(ask(), [1, 1], "the victim's packets still go to the gateway");
        let table = victim.inside(|| fs::read_to_string("/proc/thread-self/net/arp").unwrap());
        let line = table.lines().find(|line| line.starts_with("10.88.0.1 ")).unwrap();
        assert!(!line.contains("c2:71:0a:58:00:02"), "{line}");
    });
}

/// How many packets have come to the pod whose namespace the calling thread is in.
fn received() -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_groups_a_pod_listens_to_is_told_to_no_other_pod() {
    for source_check in [true, false] {
        on_a_host(move || {
            let host = Host::with(|options| options.source_check = source_check);
            let (attacker, victim) = two_pods(&host);
            let listener = Listener::of(victim.inside(|| UdpSocket::bind("[::]:5000")));
            let before = victim.inside(received);
            let script = r#"
report = b"\x8f\0\0\0\0\0\0\x01\x04\0\0\0" + packed("ff02::1:3")
alert = b"\x3a\0\x05\x02\0\0\x01\0"
for _ in range(100):
    icmp6(link_local(own), "ff02::16", report, before=alert)
udp4("10.88.0.2", "10.88.0.3", 5000, b"end")
"#;
            if !attack(&attacker, script) {
                return;
            }
            assert_eq!(listener.next(), "end");
            let packets = victim.inside(received) - before;
            // The kernels of all three say a few things of their own.
            assert_eq!(packets < 50, source_check, "{packets} packets where 100 were sent");
        });
    }
}

/// Lines of the table of routes that a router has told.
fn told_routes() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap();
    let is_told = |line: &&str| {
        let flags = line.split_whitespace().nth(8).unwrap();
        u32::from_str_radix(flags, 16).unwrap() & 0x0004_0000 != 0
    };
    table.lines().filter(is_told).map(str::to_owned).collect()
}

#[test]
fn the_host_takes_no_routes_from_pods() {
    for source_check in [true, false] {
        on_a_host(move || {
            // A node whose routers tell it routes, on whatever device.
            for interface in ["all", "default"] {
                let accept = format!("ipv6/conf/{interface}/accept_ra");
                namespace::write_sysctl(&accept, "2").unwrap();
            }
            let host = Host::with(|options| options.source_check = source_check);
            let (attacker, victim) = two_pods(&host);
            let listener = Listener::of(UdpSocket::bind("0.0.0.0:5000"));
            let other = Listener::of(victim.inside(|| UdpSocket::bind("0.0.0.0:5000")));
            let script = r#"
router(link_local(own))
udp4("10.88.0.2", "10.88.0.1", 5000, b"end")
udp4("10.88.0.2", "10.88.0.3", 5000, b"end")
"#;
            if !attack(&attacker, script) {
                return;
            }
            assert_eq!([listener.next(), other.next()], ["end", "end"]);
            assert!(told_routes().is_empty(), "{:?}", told_routes());
            assert!(victim.inside(told_routes).is_empty(), "nor do other pods");
            for key in
                ["ipv4/conf/criquet0/accept_redirects", "ipv6/conf/criquet0/accept_redirects"]
            {
                assert_eq!(namespace::read_sysctl(key).unwrap(), "0", "{key}");
            }
        });
    }
}

#[test]
fn the_loopback_of_the_host_stays_its_own_without_any_rules() {
    on_a_host(|| {
        let host = Host::new();
        let attacker = Pod::new("attacker").with_port(Protocol::Tcp, 8080, 80);
        host.set_up(&attacker);
        let sysctl = namespace::read_sysctl("ipv4/conf/criquet0/route_localnet").unwrap();
        assert_eq!(sysctl, "1", "host ports on loopback need it");
        // Somebody has flushed the rules that stand before it.
        destroy_table("criquet");
        let loopback = Listener::of(UdpSocket::bind("127.0.0.1:5000"));
        let gateway = Listener::of(UdpSocket::bind("10.88.0.1:5000"));
        let script = r#"
udp4("10.88.0.2", "127.0.0.1", 5000, b"loopback")
udp4("10.88.0.2", "10.88.0.1", 5000, b"end")
"#;
        if !attack(&attacker, script) {
            return;
        }
        assert_eq!(gateway.next(), "end");
        loopback.0.set_nonblocking(true).unwrap();
        assert!(loopback.0.recv(&mut [0; 8]).is_err(), "nothing has come before it");
        // Without host ports there is no need.
        host.tear_down(&attacker);
        assert_eq!(namespace::read_sysctl("ipv4/conf/criquet0/route_localnet").unwrap(), "0");
        block_on(host.network.status()).unwrap();
    });
}

#[test]
fn a_host_that_forwards_listens_to_its_routers_and_to_nobody_new() {
    on_a_host(|| {
        let world = Pod::new("world");
        connect_to_world(&world);
        let script = "router(link_local(own))";
        let there = std::cell::Cell::new(true);
        // The host's own address must be usable before it listens.
        eventually("the router is heard", || {
            there.set(attack(&world, script));
            !there.get() || !told_routes().is_empty()
        });
        if !there.get() {
            return;
        }
        let host = Host::new();
        host.set_up(&Pod::new("one"));
        assert_eq!(namespace::read_sysctl("ipv6/conf/all/forwarding").unwrap(), "1");
        assert_eq!(namespace::read_sysctl("ipv6/conf/uplink0/accept_ra").unwrap(), "2");
        for other in ["uplinkport0", "criquet0"] {
            let value = namespace::read_sysctl(&format!("ipv6/conf/{other}/accept_ra")).unwrap();
            assert_ne!(value, "2", "{other}");
        }
        assert!(!told_routes().is_empty(), "the host keeps its route");
    });
}
