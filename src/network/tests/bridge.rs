//! Pods of the built-in network reach each other, the host and the world.

use std::{fs, net::SocketAddr};

use super::harness::{Host, Pod, block_on, fetch, link_names, on_a_host};
use crate::{
    kind::Kind,
    network::{
        Protocol, namespace,
        netlink::{Messages, Socket},
        route,
    },
};

#[test]
fn pods_reach_each_other_and_the_host() {
    on_a_host(|| {
        let host = Host::new();
        let (one, two) = (Pod::new("one"), Pod::new("two"));
        let (first, second) = (host.set_up(&one), host.set_up(&two));
        assert_eq!(first.ips.len(), 2, "{first:?}");
        assert_eq!(first.ips[0].to_string(), "10.88.0.2");
        assert_eq!(first.interfaces, ["eth0"]);
        two.serve(80, "two");
        for ip in second.ips {
            let address = SocketAddr::from((ip, 80));
            assert_eq!(one.inside(move || fetch(address)).as_deref(), Some("two"), "{ip}");
            assert_eq!(fetch(address).as_deref(), Some("two"), "{ip} from the host");
        }
        let listener = std::net::TcpListener::bind("[::]:81").unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::io::Write::write_all(&mut stream.unwrap(), b"host").unwrap();
            }
        });
        for gateway in ["10.88.0.1:81", "[fd4a:6b1d:88::1]:81"] {
            let address: SocketAddr = gateway.parse().unwrap();
            assert_eq!(one.inside(move || fetch(address)).as_deref(), Some("host"), "{gateway}");
        }
    });
}

#[test]
fn a_pod_ignores_routers_and_has_its_loopback() {
    on_a_host(|| {
        let host = Host::new();
        let pod = Pod::new("one");
        host.set_up(&pod);
        let sysctl = |name: &'static str| {
            pod.inside(move || namespace::read_sysctl(&format!("ipv6/conf/{name}")).unwrap())
        };
        assert_eq!(sysctl("eth0/accept_ra"), "0");
        pod.serve(80, "self");
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(pod.inside(move || fetch(address)).as_deref(), Some("self"));
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!(pod.inside(move || fetch(address)).as_deref(), Some("self"));
    });
}

#[test]
fn the_world_sees_the_address_of_the_host() {
    on_a_host(|| {
        let world = Pod::new("world");
        connect_to_world(&world);
        let host = Host::new();
        let pod = Pod::new("one");
        host.set_up(&pod);
        let peer = world.inside(|| std::net::TcpListener::bind("0.0.0.0:80").unwrap());
        let peer = std::thread::spawn(move || peer.accept().unwrap().1.ip().to_string());
        let address: SocketAddr = "192.0.2.2:80".parse().unwrap();
        assert!(pod.inside(move || fetch(address)).is_some());
        assert_eq!(peer.join().unwrap(), "192.0.2.1");
        assert_eq!(namespace::read_sysctl("ipv4/ip_forward").unwrap(), "1");
    });
}

/// A second machine at 192.0.2.2; the host is 192.0.2.1.
pub fn connect_to_world(world: &Pod) {
    let mut socket = Socket::route().unwrap();
    let mut messages = Messages::new();
    route::add_bridge(&mut messages, "uplink0", [2, 0, 0, 0, 0, 1], 1400);
    socket.send_all(messages).unwrap();
    let index = route::index_of(&socket, "uplink0").unwrap();
    let mut messages = Messages::new();
    route::set_up(&mut messages, index);
    route::add_address(&mut messages, index, "192.0.2.1/24".parse().unwrap());
    route::add_default_route(&mut messages, index, "192.0.2.2".parse().unwrap());
    let veth = route::Veth {
        host: "uplinkport0",
        bridge: index,
        namespace: std::os::fd::AsFd::as_fd(&world.namespace),
        peer: "eth0",
        mac: [2, 0, 0, 0, 0, 2],
        mtu: 1400,
    };
    route::add_veth(&mut messages, &veth);
    route::configure_port(&mut messages, "uplinkport0");
    socket.send_all(messages).unwrap();
    world.inside(|| {
        let mut socket = Socket::route().unwrap();
        let index = route::index_of(&socket, "eth0").unwrap();
        let mut messages = Messages::new();
        route::set_up(&mut messages, 1);
        route::set_up(&mut messages, index);
        route::add_address(&mut messages, index, "192.0.2.2/24".parse().unwrap());
        socket.send_all(messages).unwrap();
    });
}

#[test]
fn the_bridge_takes_the_packet_size_of_the_uplink() {
    on_a_host(|| {
        let world = Pod::new("world");
        connect_to_world(&world);
        let host = Host::new();
        let pod = Pod::new("one");
        host.set_up(&pod);
        let mtu = pod.inside(|| route::link(&mut Socket::route().unwrap(), "eth0").unwrap().mtu);
        assert_eq!(mtu, 1400);
    });
}

#[test]
fn a_bridge_that_was_removed_is_made_again_with_its_pods() {
    on_a_host(|| {
        let mut host = Host::new();
        let one = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        let two = Pod::new("two");
        let first = host.set_up(&one);
        remove_bridge();
        host.set_up(&two);
        one.serve(80, "one");
        let address = SocketAddr::from((first.ips[0], 80));
        assert_eq!(two.inside(move || fetch(address)).as_deref(), Some("one"));
        let loopback = || fetch("127.0.0.1:8080".parse().unwrap());
        assert_eq!(loopback().as_deref(), Some("one"), "host ports on the host's loopback too");
        remove_bridge();
        host.restart();
        block_on(host.network.status()).unwrap();
        assert_eq!(two.inside(move || fetch(address)).as_deref(), Some("one"));
        assert_eq!(loopback().as_deref(), Some("one"), "also after a restart");
    });
}

fn remove_bridge() {
    let mut messages = Messages::new();
    route::delete_link(&mut messages, "criquet0");
    Socket::route().unwrap().send_all(messages).unwrap();
}

#[test]
fn a_device_in_the_place_of_the_bridge_is_named() {
    on_a_host(|| {
        let world = Pod::new("world");
        connect_to_world(&world);
        let host = Host::with(|options| options.bridge = "uplinkport0".to_owned());
        let error = host.try_set_up(&Pod::new("one")).unwrap_err().to_string();
        assert!(error.contains("is no bridge"), "{error}");
    });
}

#[test]
fn nothing_is_made_before_the_first_pod() {
    on_a_host(|| {
        let before = (link_names(), fs::read_to_string("/proc/thread-self/net/route").unwrap());
        // A new network namespace has what the machine's has.
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let host = Host::new();
        block_on(host.network.status()).unwrap();
        let after = (link_names(), fs::read_to_string("/proc/thread-self/net/route").unwrap());
        assert_eq!(before, after);
        assert_eq!(namespace::read_sysctl("ipv4/ip_forward").unwrap(), "0");
    });
}

#[test]
fn a_subnet_that_another_device_has_is_refused_as_long_as_somebody_is_on_it() {
    on_a_host(|| {
        let other = Host::with(|options| {
            options.bridge = "other0".to_owned();
            options.name_prefix = "other".to_owned();
        });
        let (theirs, ours) = (Pod::new("theirs"), Pod::new("ours"));
        other.set_up(&theirs);
        let host = Host::new();
        let error = host.try_set_up(&ours).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("device other0"), "{error}");
        // Its bridge stays, with its addresses, and nobody is on it.
        other.tear_down(&theirs);
        super::harness::eventually("nobody is on it", || host.try_set_up(&ours).is_ok());
        ours.serve(80, "ours");
        for address in ["10.88.0.2:80", "[fd4a:6b1d:88::2]:80"] {
            let reached = || fetch(address.parse().unwrap()).as_deref() == Some("ours");
            super::harness::eventually(address, reached);
        }
    });
}
