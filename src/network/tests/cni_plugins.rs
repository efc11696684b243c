//! The reference CNI plugins, where they are installed.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::harness::{Host, Pod, block_on, fetch, on_a_host};
use crate::network::Protocol;

pub const DIRECTORY: &str = "/usr/lib/cni";

fn host(plugins: &Value, data: &Path) -> Host {
    let host = Host::with(|options| options.cni_bin_dirs = vec![DIRECTORY.into()]);
    fs::create_dir(&host.options.cni_conf_dir).unwrap();
    let mut list = json!({"cniVersion": "1.0.0", "name": "real", "plugins": plugins});
    list["plugins"][0]["ipam"]["dataDir"] = json!(data);
    fs::write(host.options.cni_conf_dir.join("10-real.conflist"), list.to_string()).unwrap();
    host
}

pub fn installed(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        !["/usr/lib/cni", "/usr/sbin", "/sbin"].iter().any(|d| Path::new(d).join(program).exists())
    });
    if let Some(program) = missing {
        eprintln!("SKIPPED: {program} is not installed");
    }
    missing.is_none()
}

fn bridge() -> Value {
    json!({
        "type": "bridge", "bridge": "real0", "isGateway": true, "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    })
}

#[test]
fn pods_on_the_bridge_plugin_reach_each_other() {
    on_a_host(|| {
        if !installed(&["bridge", "host-local"]) {
            return;
        }
        let data = tempfile::tempdir().unwrap();
        let host = host(&json!([bridge()]), data.path());
        let (one, two) = (Pod::new("one"), Pod::new("two"));
        let first = host.set_up(&one);
        host.set_up(&two);
        one.serve(80, "one");
        assert_eq!(first.ips.len(), 2);
        let address = SocketAddr::from((first.ips[0], 80));
        assert_eq!(two.inside(move || fetch(address)).as_deref(), Some("one"));
        let lease = data.path().join("real").join(first.ips[0].to_string());
        assert!(lease.exists());
        host.tear_down(&one);
        host.tear_down(&one);
        assert!(!lease.exists());
    });
}

#[test]
fn a_host_port_through_the_portmap_plugin() {
    on_a_host(|| {
        if !installed(&["bridge", "host-local", "portmap", "iptables"]) {
            return;
        }
        let data = tempfile::tempdir().unwrap();
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        let host = host(&json!([bridge(), portmap]), data.path());
        let pod = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
        host.set_up(&pod);
        pod.serve(80, "one");
        let address: SocketAddr = "10.77.0.1:8080".parse().unwrap();
        assert_eq!(fetch(address).as_deref(), Some("one"));
        host.tear_down(&pod);
        assert_eq!(fetch(address), None);
    });
}

/// Where the plugins of Flannel and Multus are, which Debian does not have.
pub fn more_plugins() -> Option<PathBuf> {
    let directory = std::env::var_os("CRIQUET_TEST_CNI_PLUGINS").map(PathBuf::from);
    let is_there = |directory: &PathBuf| {
        ["flannel", "multus"].iter().all(|plugin| directory.join(plugin).is_file())
    };
    let directory = directory.filter(is_there);
    if directory.is_none() {
        eprintln!("SKIPPED: no flannel and multus in CRIQUET_TEST_CNI_PLUGINS");
    }
    directory
}

/// Flannel's network with host ports, as its installation configures it, and everything that it
/// writes in a directory of the test.
pub fn flannel(data: &Path) -> Value {
    fs::write(
        data.join("subnet.env"),
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\n\
         FLANNEL_IPV6_NETWORK=fd44::/48\nFLANNEL_IPV6_SUBNET=fd44:0:0:7::1/64\n\
         FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
    )
    .unwrap();
    json!({"cniVersion": "0.3.1", "name": "cbr0", "plugins": [
        {
            "type": "flannel",
            "subnetFile": data.join("subnet.env"),
            "dataDir": data.join("flannel"),
            "ipam": {"dataDir": data.join("ipam")},
            "delegate": {"bridge": "flannel0", "hairpinMode": true, "isDefaultGateway": true},
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

/// The same as Multus' network for pods that ask for no other.
fn multus(data: &Path) -> Value {
    json!({
        "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus",
        "capabilities": {"portMappings": true},
        "cniDir": data.join("multus"),
        "confDir": data.join("none"),
        "logFile": data.join("multus.log"),
        "delegates": [flannel(data)],
    })
}

#[test]
fn pods_reach_each_other_over_the_plugins_of_flannel_and_multus() {
    for (file, configuration) in [
        ("10-flannel.conflist", flannel as fn(&Path) -> Value),
        ("00-multus.conf", multus as fn(&Path) -> Value),
    ] {
        on_a_host(move || {
            let Some(more) = more_plugins() else { return };
            if !installed(&["bridge", "host-local", "portmap", "iptables"]) {
                return;
            }
            let data = tempfile::tempdir().unwrap();
            let mut host = Host::with(|options| {
                options.cni_bin_dirs = vec![more.clone(), DIRECTORY.into()];
            });
            fs::create_dir(&host.options.cni_conf_dir).unwrap();
            let path = host.options.cni_conf_dir.join(file);
            fs::write(path, configuration(data.path()).to_string()).unwrap();
            let one = Pod::new("one").with_port(Protocol::Tcp, 8080, 80);
            let two = Pod::new("two");
            let first = host.set_up(&one);
            host.set_up(&two);
            assert_eq!(first.ips.len(), 2, "{file}: {first:?}");
            one.serve(80, "one");
            for ip in first.ips.clone() {
                let address = SocketAddr::from((ip, 80));
                assert_eq!(two.inside(move || fetch(address)).as_deref(), Some("one"), "{file}");
            }
            let host_port: SocketAddr = "10.244.7.1:8080".parse().unwrap();
            assert_eq!(fetch(host_port).as_deref(), Some("one"), "{file}");
            let lease = data.path().join("ipam/cbr0").join(first.ips[0].to_string());
            assert!(lease.exists());
            // By what is recorded, whatever is configured by then.
            fs::remove_dir_all(&host.options.cni_conf_dir).unwrap();
            host.restart();
            let request = two.request.clone();
            drop(two);
            block_on(host.network.teardown(&request, None)).unwrap();
            host.tear_down(&one);
            assert!(!lease.exists());
            assert_eq!(fetch(host_port), None, "{file}");
            let left: Vec<_> = fs::read_dir(data.path().join("ipam/cbr0"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.contains("10.244") && !name.starts_with("last_reserved"))
                .collect();
            assert!(left.is_empty(), "{file}: {left:?}");
        });
    }
}
