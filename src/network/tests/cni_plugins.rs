//! The reference CNI plugins, where they are installed.

use std::{fs, net::SocketAddr, path::Path};

use serde_json::json;

use super::harness::{Host, Pod, fetch, on_a_host};
use crate::network::Protocol;

const DIRECTORY: &str = "/usr/lib/cni";

fn host(plugins: &serde_json::Value, data: &Path) -> Host {
    let host = Host::with(|options| options.cni_bin_dirs = vec![DIRECTORY.into()]);
    fs::create_dir(&host.options.cni_conf_dir).unwrap();
    let mut list = json!({"cniVersion": "1.0.0", "name": "real", "plugins": plugins});
    list["plugins"][0]["ipam"]["dataDir"] = json!(data);
    fs::write(host.options.cni_conf_dir.join("10-real.conflist"), list.to_string()).unwrap();
    host
}

fn installed(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        !["/usr/lib/cni", "/usr/sbin", "/sbin"].iter().any(|d| Path::new(d).join(program).exists())
    });
    if let Some(program) = missing {
        eprintln!("SKIPPED: {program} is not installed");
    }
    missing.is_none()
}

fn bridge() -> serde_json::Value {
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
