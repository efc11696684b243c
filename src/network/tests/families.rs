//! Families of addresses: which comes first, each by itself, and a bridge that is full.

use super::harness::{Host, Pod, eventually, fetch, on_a_host};
use crate::{
    kind::Kind,
    network::{Family, Protocol, namespace},
};

#[test]
fn the_preferred_family_comes_first_and_one_family_is_enough() {
    on_a_host(|| {
        let both = Host::with(|options| options.prefer = Some(Family::Ipv6));
        let addresses = both.set_up(&Pod::new("both"));
        assert_eq!(addresses.ips[0].to_string(), "fd4a:6b1d:88::2");
        assert_eq!(addresses.ips.len(), 2);
    });
    on_a_host(|| {
        let host = Host::with(|options| options.subnet_v4 = None);
        let (one, two) = (Pod::new("one").with_port(Protocol::Tcp, 8080, 80), Pod::new("two"));
        let addresses = host.set_up(&one);
        host.set_up(&two);
        one.serve(80, "one");
        assert_eq!(addresses.ips.len(), 1);
        for address in [(addresses.ips[0], 80), ("fd4a:6b1d:88::1".parse().unwrap(), 8080)] {
            let reached = two.inside(move || fetch(address.into()));
            assert_eq!(reached.as_deref(), Some("one"), "{address:?}");
        }
    });
}

#[test]
fn pods_have_ipv4_where_the_kernel_has_ipv6_turned_off() {
    on_a_host(|| {
        for interface in ["all", "default"] {
            let sysctl = format!("ipv6/conf/{interface}/disable_ipv6");
            namespace::write_sysctl(&sysctl, "1").unwrap();
        }
        let host = Host::new();
        let (one, two) = (Pod::new("one"), Pod::new("two"));
        let addresses = host.set_up(&one);
        host.set_up(&two);
        one.serve(80, "one");
        assert_eq!(addresses.ips.len(), 1);
        let address = (addresses.ips[0], 80).into();
        let reached = two.inside(move || fetch(address));
        assert_eq!(reached.as_deref(), Some("one"));
    });
    on_a_host(|| {
        namespace::write_sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
        let host = Host::with(|options| options.subnet_v4 = None);
        let error = host.try_set_up(&Pod::new("one")).unwrap_err().to_string();
        assert!(error.contains("IPv6 turned off"), "{error}");
    });
}

#[test]
fn a_bridge_that_is_full_is_named() {
    on_a_host(|| {
        let host = Host::new();
        let first = Pod::new("first");
        host.set_up(&first);
        // The kernel gives a bridge 1,023 ports; pairs of devices are the cheapest ones.
        let mut batch = String::new();
        for number in 0..512 {
            batch += &format!("link add a{number} type veth peer name b{number}\n");
            for end in ["a", "b"] {
                batch += &format!("link set {end}{number} master criquet0\n");
            }
        }
        let mut ip = match std::process::Command::new("ip")
            .args(["-force", "-batch", "-"])
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
        {
            Ok(ip) => ip,
            Err(error) => return eprintln!("SKIPPED: ip: {error}"),
        };
        std::io::Write::write_all(&mut ip.stdin.take().unwrap(), batch.as_bytes()).unwrap();
        // Those that do not fit are refused.
        ip.wait().unwrap();
        let late = Pod::new("late");
        let error = host.try_set_up(&late).unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
        assert!(error.to_string().contains("criquet0 has 1,023 ports"), "{error}");
        host.tear_down(&first);
        eventually("a port becomes free", || host.try_set_up(&late).is_ok());
    });
}
