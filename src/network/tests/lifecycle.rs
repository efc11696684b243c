//! Leases over teardown, restart, garbage collection and exhaustion.

use std::{os::fd::AsFd, path::Path};

use super::harness::{Host, Pod, block_on, eventually, link_names, on_a_host, pod_links};
use crate::{
    kind::Kind,
    network::{Addresses, Protocol, builtin::table_exists},
};

fn primary(addresses: &Addresses) -> String {
    addresses.ips[0].to_string()
}

#[test]
fn a_teardown_may_be_repeated_and_needs_no_namespace() {
    on_a_host(|| {
        let host = Host::new();
        let pod = Pod::new("one");
        host.set_up(&pod);
        assert_eq!(pod_links(), 1);
        host.tear_down(&pod);
        host.tear_down(&pod);
        eventually("the device goes", || pod_links() == 0);

        let gone = Pod::new("two");
        host.set_up(&gone);
        let request = gone.request.clone();
        drop(gone);
        block_on(host.network.teardown(&request, Some(Path::new("/nowhere")))).unwrap();
        block_on(host.network.teardown(&request, None)).unwrap();
        eventually("the second device goes", || pod_links() == 0);
    });
}

#[test]
fn addresses_survive_a_restart_and_rest_after_it() {
    on_a_host(|| {
        let mut host = Host::new();
        let (one, two, three) = (Pod::new("one"), Pod::new("two"), Pod::new("three"));
        assert_eq!(primary(&host.set_up(&one)), "10.88.0.2");
        assert_eq!(primary(&host.set_up(&two)), "10.88.0.3");
        host.tear_down(&two);
        host.restart();
        assert_eq!(primary(&host.set_up(&three)), "10.88.0.4");
        host.tear_down(&one);
        eventually("one device is left", || pod_links() == 1);
    });
}

#[test]
fn a_second_setup_of_a_sandbox_replaces_the_first() {
    on_a_host(|| {
        let host = Host::new();
        let pod = Pod::new("one");
        host.set_up(&pod);
        let again =
            Pod { request: pod.request.clone(), namespace: super::harness::new_namespace() };
        let addresses = host.set_up(&again);
        assert_eq!(primary(&addresses), "10.88.0.3");
        eventually("the first device goes", || pod_links() == 1);
        again.serve(80, "again");
        let address = (addresses.ips[0], 80).into();
        assert_eq!(super::harness::fetch(address).as_deref(), Some("again"));
    });
}

#[test]
fn exhaustion_is_said_and_ends_when_a_pod_goes() {
    on_a_host(|| {
        let host = Host::with(|options| {
            options.subnet_v4 = Some("10.89.0.0/29".parse().unwrap());
            options.subnet_v6 = None;
        });
        let pods: Vec<Pod> = (0..5).map(|n| Pod::new(&format!("p{n}"))).collect();
        pods.iter().for_each(|pod| drop(host.set_up(pod)));
        let late = Pod::new("late");
        let error = host.try_set_up(&late).unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted);
        host.tear_down(&pods[2]);
        eventually("an address becomes free", || host.try_set_up(&late).is_ok());
        assert_eq!(pod_links(), 5);
    });
}

#[test]
fn a_failed_setup_leaves_nothing() {
    on_a_host(|| {
        let host = Host::new();
        let pod = Pod::new("one");
        let file = tempfile::tempfile().unwrap();
        let error = block_on(host.network.setup(&pod.request, file.as_fd(), Path::new("/x")));
        assert!(error.unwrap_err().to_string().contains("enter"), "says what failed");
        eventually("no device is there", || pod_links() == 0);
        // The thread is still at home and the address is free again.
        host.set_up(&pod);
        assert_eq!(pod_links(), 1);
    });
}

#[test]
fn garbage_is_what_nobody_lives_in() {
    on_a_host(|| {
        let mut host = Host::new();
        let (live, dead) = (Pod::new("live"), Pod::new("dead"));
        host.set_up(&live);
        host.set_up(&dead);
        host.restart();
        block_on(host.network.collect_garbage(&["live".to_owned()])).unwrap();
        eventually("the dead pod's device goes", || pod_links() == 1);

        // A device that no record knows: the database was lost.
        std::fs::remove_file(host.directory.path().join("state.db")).unwrap();
        std::fs::remove_file(host.directory.path().join("state.db-wal")).unwrap_or_default();
        host.restart();
        block_on(host.network.collect_garbage(&[])).unwrap();
        eventually("the unknown device goes", || pod_links() == 0);
    });
}

#[test]
fn pod_cidrs_are_used_for_new_pods_and_kept() {
    on_a_host(|| {
        let mut host = Host::new();
        let (old, new, later) = (Pod::new("old"), Pod::new("new"), Pod::new("later"));
        let before = host.set_up(&old);
        let cidrs = ["10.244.3.0/24".parse().unwrap()];
        block_on(host.network.set_pod_cidrs(&cidrs)).unwrap();
        let addresses = host.set_up(&new);
        assert_eq!(primary(&addresses), "10.244.3.2");
        assert_eq!(addresses.ips.len(), 1);
        old.serve(80, "old");
        let address = (before.ips[0], 80).into();
        let reached = new.inside(move || super::harness::fetch(address));
        assert_eq!(reached.as_deref(), Some("old"), "through the gateway");
        host.restart();
        assert_eq!(primary(&host.set_up(&later)), "10.244.3.3");
        assert!(block_on(host.network.set_pod_cidrs(&["10.0.0.0/32".parse().unwrap()])).is_err());
        // A changed configuration counts again.
        host.options.subnet_v4 = Some("10.90.0.0/16".parse().unwrap());
        host.restart();
        assert_eq!(primary(&host.set_up(&Pod::new("last"))), "10.90.0.2");
    });
}

#[test]
fn a_network_is_removed_from_the_host_once_no_pod_has_it() {
    on_a_host(|| {
        let host = Host::new();
        let pod = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        host.set_up(&pod);
        let error = block_on(host.network.remove_builtin()).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("one"), "{error}");
        host.tear_down(&pod);
        block_on(host.network.remove_builtin()).unwrap();
        block_on(host.network.remove_builtin()).unwrap();
        assert!(!link_names().contains(&"criquet0".to_owned()));
        assert!(!table_exists("criquet"));
        host.set_up(&Pod::new("two"));
        assert!(link_names().contains(&"criquet0".to_owned()), "made again when it is needed");
    });
}

#[test]
fn the_host_forgets_where_the_addresses_of_a_pod_were() {
    on_a_host(|| {
        let host = Host::new();
        let pod = Pod::new("one");
        let addresses = host.set_up(&pod);
        pod.serve(80, "one");
        for ip in &addresses.ips {
            assert_eq!(super::harness::fetch((*ip, 80).into()).as_deref(), Some("one"));
        }
        let neighbours = || {
            let mut ip = std::process::Command::new("ip");
            let shown = ip.args(["neigh", "show", "dev", "criquet0"]).output().unwrap();
            String::from_utf8(shown.stdout).unwrap()
        };
        let before = neighbours();
        assert!(addresses.ips.iter().all(|ip| before.contains(&ip.to_string())), "{before}");
        host.tear_down(&pod);
        eventually("it knows none of them", || neighbours().is_empty());
    });
}

#[test]
fn a_list_has_subnets_addresses_and_host_ports() {
    on_a_host(|| {
        let host = Host::new();
        let pod = Pod::new("one").with_port(Protocol::Sctp, 8080, 80);
        let addresses = host.set_up(&pod);
        let (bridge, others) = block_on(host.network.list()).unwrap();
        assert!(others.is_empty());
        assert_eq!(bridge.bridge, "criquet0");
        let v4 = &bridge.subnets[0];
        assert_eq!((v4.used, v4.size, v4.gateway.to_string()), (1, 65533, "10.88.0.1".to_owned()));
        let [listed] = bridge.pods.as_slice() else { panic!("{bridge:?}") };
        assert_eq!((listed.sandbox.as_str(), &listed.addresses), ("one", &addresses.ips));
        assert_eq!(listed.host_ports, pod.request.port_mappings);
        assert!(link_names().contains(&listed.device));
        host.tear_down(&pod);
        assert!(block_on(host.network.list()).unwrap().0.pods.is_empty());
    });
}

#[test]
fn without_any_network_the_status_says_what_to_do() {
    on_a_host(|| {
        let host = Host::with(|options| options.builtin = false);
        let error = block_on(host.network.status()).unwrap_err();
        assert!(error.to_string().contains("net.d"), "{error}");
        assert_eq!(host.try_set_up(&Pod::new("one")).unwrap_err().kind(), error.kind());
    });
}

#[test]
fn a_caller_that_goes_away_leaves_what_a_teardown_finds() {
    on_a_host(|| {
        let host = Host::new();
        let pod = Pod::new("one");
        block_on(async {
            let path = pod.path();
            let setup = host.network.setup(&pod.request, pod.namespace.as_fd(), &path);
            // Polled once, then dropped.
            let _ = tokio::time::timeout(std::time::Duration::ZERO, setup).await;
        });
        host.tear_down(&pod);
        eventually("the device goes", || pod_links() == 0);
        // The namespace can be used: nothing of the first attempt comes late.
        eventually("the pod is set up", || host.try_set_up(&pod).is_ok());
        assert_eq!(pod_links(), 1);
    });
}

#[test]
fn names_that_cannot_be_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["", "much-too-long-for-a-device", "a/b", "with space", ".."] {
        let options = crate::network::Options { bridge: name.to_owned(), ..Default::default() };
        let error = super::harness::try_open(&directory, &options).err().expect(name);
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    }
}

#[test]
fn the_namespace_of_a_user_namespace_is_set_up_as_well() {
    on_a_host(|| {
        let host = Host::new();
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let mut child = std::process::Command::new("unshare")
            .args(["--user", "--net", "sleep", "60"])
            .spawn()
            .unwrap();
        let path = std::path::PathBuf::from(format!("/proc/{}/ns/net", child.id()));
        eventually("the child is in its namespace", || {
            std::fs::read_link(&path).is_ok_and(|theirs| theirs != ours)
        });
        let namespace = std::fs::File::open(&path).unwrap().into();
        let pod = Pod { request: Pod::new("one").request, namespace };
        let addresses = host.set_up(&pod);
        pod.serve(80, "rootless");
        let answer = super::harness::fetch((addresses.ips[0], 80).into());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(answer.as_deref(), Some("rootless"));
    });
}
