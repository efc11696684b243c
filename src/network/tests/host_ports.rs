//! Ports of the host that lead to pods of the built-in network.

use std::net::{SocketAddr, UdpSocket};

use super::{
    bridge::connect_to_world,
    harness::{Host, LIMIT, Pod, block_on, eventually, fetch, on_a_host},
};
use crate::{
    kind::Kind,
    network::{Protocol, builtin::destroy_table},
};

fn from_the_host(address: &str) -> Option<String> {
    fetch(address.parse().unwrap())
}

fn from(pod: &Pod, address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    pod.inside(move || fetch(address))
}

#[test]
fn a_host_port_leads_to_the_pod_and_ends_with_it() {
    check_all_ways(None);
}

#[test]
fn a_host_port_needs_no_filter_of_bridged_packets() {
    check_all_ways(Some("0"));
}

#[test]
fn a_host_port_works_with_a_filter_of_bridged_packets() {
    check_all_ways(Some("1"));
}

/// From everywhere, with the kernel's filter of bridged packets as given.
fn check_all_ways(bridge_filter: Option<&'static str>) {
    on_a_host(move || {
        for name in ["iptables", "ip6tables"] {
            let sysctl = format!("bridge/bridge-nf-call-{name}");
            let set = |value| crate::network::namespace::write_sysctl(&sysctl, value);
            if bridge_filter.is_some_and(|value| set(value).is_err()) {
                eprintln!("SKIPPED: br_netfilter is not loaded");
                return;
            }
        }
        let world = Pod::new("world");
        connect_to_world(&world);
        let host = Host::new();
        let pod = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        let other = Pod::new("two");
        host.set_up(&pod);
        host.set_up(&other);
        pod.serve(80, "pod");
        fetch("10.88.0.2:80".parse().unwrap());
        let everywhere = || {
            [
                from_the_host("127.0.0.1:8080"),
                from_the_host("192.0.2.1:8080"),
                from_the_host("[fd4a:6b1d:88::1]:8080"),
                from(&world, "192.0.2.1:8080"),
                from(&other, "192.0.2.1:8080"),
                from(&other, "[fd4a:6b1d:88::1]:8080"),
                from(&pod, "192.0.2.1:8080"),
            ]
        };
        for (index, answer) in everywhere().iter().enumerate() {
            assert_eq!(answer.as_deref(), Some("pod"), "way {index}");
        }
        // The kernel cannot carry ::1 off the host: refused at once, not lost.
        let loopback = std::net::TcpStream::connect("[::1]:8080").unwrap_err();
        assert_eq!(loopback.kind(), std::io::ErrorKind::ConnectionRefused);
        host.tear_down(&pod);
        for (index, answer) in everywhere().iter().enumerate() {
            assert_eq!(*answer, None, "way {index}");
        }
    });
}

#[test]
fn packets_for_others_pass_and_the_hosts_loopback_stays_its_own() {
    on_a_host(|| {
        let world = Pod::new("world");
        connect_to_world(&world);
        world.serve(8080, "world");
        let host = Host::new();
        let pod = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        host.set_up(&pod);
        assert_eq!(from(&pod, "192.0.2.2:8080").as_deref(), Some("world"));
        // A packet for 127.0.0.1 that comes from the bridge must not reach the host.
        let listener = UdpSocket::bind("0.0.0.0:9999").unwrap();
        listener.set_read_timeout(Some(LIMIT)).unwrap();
        pod.inside(|| {
            crate::network::namespace::write_sysctl("ipv4/conf/eth0/route_localnet", "1").unwrap();
            crate::network::namespace::write_sysctl("ipv4/conf/all/route_localnet", "1").unwrap();
            move_loopback_away();
            let socket = UdpSocket::bind("10.88.0.2:0").unwrap();
            let _ = socket.send_to(b"intruder", "127.0.0.1:9999");
            socket.send_to(b"end", "10.88.0.1:9999").unwrap();
        });
        let mut buffer = [0; 16];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"end", "the guard lets it through");
    });
}

/// Inside a pod: sends what is for 127.0.0.0/8 to the gateway.
fn move_loopback_away() {
    let program = "ip route del local 127.0.0.0/8 table local; ip route del local 127.0.0.1 \
                   table local; ip route add 127.0.0.0/8 via 10.88.0.1 dev eth0";
    let status = std::process::Command::new("sh").args(["-c", program]).status().unwrap();
    assert!(status.success());
}

#[test]
fn host_addresses_share_a_port_and_udp_works() {
    on_a_host(|| {
        let world = Pod::new("world");
        connect_to_world(&world);
        let host = Host::new();
        let mut one = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        one.request.port_mappings[0].host_ip = Some("192.0.2.1".parse().unwrap());
        let mut two = Pod::new("two").with_port(Protocol::Tcp, 8080, 80);
        two.request.port_mappings[0].host_ip = Some("127.0.0.1".parse().unwrap());
        let three = Pod::new("three").with_port(Protocol::Udp, 5353, 53);
        for (pod, text) in [(&one, "one"), (&two, "two"), (&three, "three")] {
            host.set_up(pod);
            pod.serve(80, text);
        }
        assert_eq!(from_the_host("192.0.2.1:8080").as_deref(), Some("one"));
        assert_eq!(from_the_host("127.0.0.1:8080").as_deref(), Some("two"));
        assert_eq!(from(&world, "192.0.2.1:8080").as_deref(), Some("one"));

        let server = three.inside(|| UdpSocket::bind("0.0.0.0:53").unwrap());
        server.set_read_timeout(Some(LIMIT)).unwrap();
        let client = world.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        client.send_to(b"question", "192.0.2.1:5353").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(server.recv_from(&mut buffer).unwrap().0, 8);
    });
}

#[test]
fn a_taken_host_port_is_refused_and_nothing_is_left() {
    on_a_host(|| {
        let mut host = Host::new();
        let one = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        let two = Pod::new("two").with_port(Protocol::Tcp, 8080, 81);
        host.set_up(&one);
        host.restart();
        let error = host.try_set_up(&two).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        assert!(error.to_string().contains("8080/tcp"), "{error}");
        host.tear_down(&one);
        host.restart();
        host.set_up(&two);
        let none = Pod::new("none").with_port(Protocol::Tcp, 0, 81);
        host.set_up(&none);
    });
}

#[test]
fn a_host_port_of_the_ipv6_loopback_is_refused_and_nothing_is_left() {
    on_a_host(|| {
        let host = Host::new();
        let mut pod = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        pod.request.port_mappings[0].host_ip = Some("::1".parse().unwrap());
        let error = host.try_set_up(&pod).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
        assert!(block_on(host.network.list()).unwrap().0.pods.is_empty());
    });
}

#[test]
fn rules_are_mended_and_follow_a_restart() {
    on_a_host(|| {
        let mut host = Host::new();
        let one = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        host.set_up(&one);
        one.serve(80, "one");
        fetch("10.88.0.2:80".parse().unwrap());
        destroy_table("criquet");
        assert_eq!(from_the_host("127.0.0.1:8080"), None);
        block_on(host.network.status()).unwrap();
        assert_eq!(from_the_host("127.0.0.1:8080").as_deref(), Some("one"));

        host.restart();
        let two = Pod::new("two").with_port(Protocol::Tcp, 8081, 80);
        host.set_up(&two);
        two.serve(80, "two");
        assert_eq!(from_the_host("127.0.0.1:8080").as_deref(), Some("one"));
        destroy_table("criquet");
        let three = Pod::new("three").with_port(Protocol::Tcp, 8082, 80);
        host.set_up(&three);
        assert_eq!(from_the_host("127.0.0.1:8081").as_deref(), Some("two"));
    });
}

#[test]
fn a_udp_client_that_goes_on_sending_follows_the_port() {
    on_a_host(|| {
        let world = Pod::new("world");
        connect_to_world(&world);
        let host = Host::new();
        let client = world.inside(|| UdpSocket::bind("0.0.0.0:4000").unwrap());
        for name in ["one", "two"] {
            // Before the port leads to the pod, the host itself is asked.
            client.send_to(b"too early", "192.0.2.1:5353").unwrap();
            ask_a_new_pod(&host, &client, name);
        }
    });
}

#[test]
fn a_udp_client_that_was_there_before_the_rules_follows_the_port() {
    on_a_host(|| {
        let world = Pod::new("world");
        connect_to_world(&world);
        let host = Host::new();
        let other = Pod::new("other").with_port(Protocol::Tcp, 8080, 80);
        host.set_up(&other);
        let client = world.inside(|| UdpSocket::bind("0.0.0.0:4000").unwrap());
        client.send_to(b"too early", "192.0.2.1:5353").unwrap();
        // What the rules knew of it goes with them.
        destroy_table("criquet");
        block_on(host.network.status()).unwrap();
        ask_a_new_pod(&host, &client, "one");
    });
}

/// Makes a pod, and goes on sending to its UDP port until it is asked.
fn ask_a_new_pod(host: &Host, client: &UdpSocket, name: &str) {
    let pod = Pod::new(name).with_port(Protocol::Udp, 5353, 53);
    host.set_up(&pod);
    let server = pod.inside(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_nonblocking(true).unwrap();
    eventually("the pod is asked", || {
        client.send_to(b"question", "192.0.2.1:5353").unwrap();
        server.recv(&mut [0; 16]).is_ok_and(|length| length == 8)
    });
    host.tear_down(&pod);
}
