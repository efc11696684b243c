//! Multus with a Kubernetes of one pod, which asks for a second network.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
};

use serde_json::{Value, json};

use super::{
    cni_plugins::{DIRECTORY, flannel, installed, more_plugins},
    harness::{Host, Pod, block_on, on_a_host},
};
use crate::network::{netlink::Socket, route};

/// What Kubernetes knows, by the end of its path.
fn known(data: &Path) -> [(&'static str, Value); 2] {
    let second = json!({
        "cniVersion": "0.3.1", "name": "second", "type": "bridge", "bridge": "second0",
        "ipam": {"type": "host-local", "dataDir": data.join("ipam"), "subnet": "10.245.0.0/24"},
    });
    [
        (
            "/pods/pod-one",
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "pod-one", "namespace": "default", "uid": "uid-one",
                    "annotations": {"k8s.v1.cni.cncf.io/networks": "second"},
                },
            }),
        ),
        (
            "/network-attachment-definitions/second",
            json!({
                "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": "second", "namespace": "default"},
                "spec": {"config": second.to_string()},
            }),
        ),
    ]
}

/// Answers every question with what is known, and every statement with the pod.
fn serve(known: [(&'static str, Value); 2]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away has what it wanted.
            let _ = answer(&stream.unwrap(), &known);
        }
    });
    address
}

fn answer(stream: &TcpStream, known: &[(&'static str, Value)]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let path = request.split([' ', '?']).nth(1).unwrap_or_default();
    let found = known.iter().find(|(end, _)| path.ends_with(end));
    let is_question = request.starts_with("GET ");
    let (status, body) = match found {
        None if is_question => {
            ("404 Not Found", json!({"kind": "Status", "apiVersion": "v1", "code": 404}))
        }
        found => ("200 OK", found.unwrap_or(&known[0]).1.clone()),
    };
    let body = body.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn kubeconfig(data: &Path, server: SocketAddr) -> std::path::PathBuf {
    let path = data.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    fs::write(&path, text.to_string()).unwrap();
    path
}

#[test]
fn a_pod_has_the_second_network_that_it_asks_multus_for() {
    on_a_host(|| {
        let Some(more) = more_plugins() else { return };
        if !installed(&["bridge", "host-local", "portmap", "iptables"]) {
            return;
        }
        let data = tempfile::tempdir().unwrap();
        let host = Host::with(|options| {
            options.cni_bin_dirs = vec![more, DIRECTORY.into()];
        });
        fs::create_dir(&host.options.cni_conf_dir).unwrap();
        let server = serve(known(data.path()));
        let configuration = json!({
            "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus",
            "kubeconfig": kubeconfig(data.path(), server),
            "cniDir": data.path().join("multus"),
            "confDir": data.path().join("none"),
            "logFile": data.path().join("multus.log"),
            "delegates": [flannel(data.path())],
        });
        let file = host.options.cni_conf_dir.join("00-multus.conf");
        fs::write(file, configuration.to_string()).unwrap();
        let pod = Pod::new("one");
        let addresses = host.set_up(&pod);
        assert!(addresses.ips[0].to_string().starts_with("10.244.7."), "{addresses:?}");
        let has = |name: &'static str| {
            pod.inside(move || route::link(&mut Socket::route().unwrap(), name).is_ok())
        };
        assert!(has("eth0") && has("net1"), "both networks are there");
        let lease = data.path().join("ipam/second/10.245.0.2");
        assert!(lease.exists());
        block_on(host.network.teardown(&pod.request, Some(&pod.path()))).unwrap();
        assert!(!has("eth0") && !has("net1"));
        assert!(!lease.exists());
    });
}
