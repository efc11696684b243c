//! Limits of bandwidth in the built-in network.

use std::{fs, net::SocketAddr};

use super::harness::{Host, Pod, block_on, eventually, fetch, link_names, on_a_host};
use crate::{
    kind::Kind,
    network::{
        netlink::{Messages, Socket, attributes, read_u32},
        route,
    },
};

const DUMP: u16 = 0x300;

/// The rates of a device's limits (`tbf`), in bytes a second.
fn rates(device: &str) -> Vec<u32> {
    let mut socket = Socket::route().unwrap();
    let index = route::index_of(&socket, device).unwrap();
    let mut question = Messages::new();
    question.begin(libc::RTM_GETQDISC, DUMP, &[0; 20]);
    let mut rates = Vec::new();
    for body in socket.ask(question).unwrap() {
        let find = |kind: u16| attributes(&body, 20).find(|(found, _)| *found == kind);
        if read_u32(&body, 4) == Some(index) && find(1).is_some_and(|(_, name)| name == b"tbf\0") {
            let (_, options) = find(2).unwrap();
            let (_, parameters) = attributes(options, 0).find(|(kind, _)| *kind == 1).unwrap();
            rates.push(read_u32(parameters, 8).unwrap());
        }
    }
    rates
}

fn sent_by(device: &str) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let start = format!("{device}:");
    let line = table.lines().find_map(|line| line.trim().strip_prefix(&start)).unwrap();
    line.split_whitespace().nth(8).unwrap().parse().unwrap()
}

#[test]
fn a_pod_is_limited_in_both_directions_and_leaves_nothing() {
    on_a_host(|| {
        let mut host = Host::new();
        let mut pod = Pod::new("slow");
        for (annotation, rate) in
            [("kubernetes.io/ingress-bandwidth", "8M"), ("kubernetes.io/egress-bandwidth", "4M")]
        {
            pod.request.annotations.insert(annotation.to_owned(), rate.to_owned());
        }
        let addresses = host.set_up(&pod);
        let listed = block_on(host.network.list()).unwrap().0.pods.remove(0);
        assert_eq!((listed.ingress, listed.egress), (Some(8_000_000), Some(4_000_000)));
        let between = listed.device.replacen("cq", "cb", 1);
        assert_eq!(rates(&listed.device), [1_000_000]);
        assert_eq!(rates(&between), [500_000]);
        pod.serve(80, "slow");
        for ip in addresses.ips {
            let before = sent_by(&between);
            assert_eq!(fetch(SocketAddr::from((ip, 80))).as_deref(), Some("slow"), "{ip}");
            assert!(sent_by(&between) > before, "what the pod sends goes through {between}");
        }
        host.tear_down(&pod);
        let is_left = || link_names().iter().any(|name| name.starts_with("cb"));
        eventually("the device in between goes", || !is_left());

        // Also when nothing is known of the pod any more.
        host.set_up(&pod);
        assert!(is_left());
        let request = pod.request.clone();
        drop(pod);
        fs::remove_file(host.directory.path().join("state.db")).unwrap();
        fs::remove_file(host.directory.path().join("state.db-wal")).unwrap_or_default();
        host.restart();
        eventually("it is garbage", || {
            block_on(host.network.collect_garbage(&[])).unwrap();
            !is_left()
        });
        block_on(host.network.teardown(&request, None)).unwrap();
    });
}

#[test]
fn a_rate_that_is_none_is_refused() {
    on_a_host(|| {
        let host = Host::new();
        let mut pod = Pod::new("odd");
        let annotation = "kubernetes.io/egress-bandwidth";
        pod.request.annotations.insert(annotation.to_owned(), "fast".to_owned());
        let error = host.try_set_up(&pod).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().contains(annotation), "{error}");
        assert!(link_names().iter().all(|name| name != "criquet0"), "nothing is made");
    });
}
