//! Sandboxes: their life, their namespaces, their network.

mod common;

use std::collections::HashMap;

use common::{Node, eventually, leaks, requests};
use criquet::cri::v1;
use tonic::Code;

#[tokio::test]
async fn a_sandbox_lives_and_leaves_nothing() {
    requires_root!();
    let mut node = Node::start().await;
    let id = node.pod("life").await;
    let status = node.pod_status(&id).await.unwrap();
    assert_eq!(status.state, i32::from(v1::PodSandboxState::SandboxReady));
    assert!(status.created_at > 0);
    let network = status.network.unwrap();
    assert!(network.ip.starts_with("10.88."), "{network:?}");
    assert_eq!(network.additional_ips.len(), 1, "{network:?}");
    assert_ne!(leaks::traces(&node), leaks::Traces::default());

    node.stop_pod(&id).await.unwrap();
    node.stop_pod(&id).await.unwrap();
    let status = node.pod_status(&id).await.unwrap();
    assert_eq!(status.state, i32::from(v1::PodSandboxState::SandboxNotready));
    node.remove_pod(&id).await.unwrap();
    node.remove_pod(&id).await.unwrap();
    assert_eq!(node.pod_status(&id).await.unwrap_err().code(), Code::NotFound);
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_repeat_gets_the_first_result() {
    requires_root!();
    let mut node = Node::start().await;
    let config = requests::sandbox(&node, "twice");
    let (mut one, mut other) = (node.runtime.clone(), node.runtime.clone());
    let request =
        || v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let (first, second) =
        tokio::join!(one.run_pod_sandbox(request()), other.run_pod_sandbox(request()));
    let first = first.unwrap().into_inner().pod_sandbox_id;
    assert_eq!(first, second.unwrap().into_inner().pod_sandbox_id);
    assert_eq!(node.run(config.clone()).await.unwrap(), first);
    assert_eq!(node.pods(v1::PodSandboxFilter::default()).await.len(), 1);

    node.stop_pod(&first).await.unwrap();
    assert_eq!(node.run(config.clone()).await.unwrap_err().code(), Code::AlreadyExists);
    let mut again = config;
    again.metadata.as_mut().unwrap().attempt = 1;
    assert_ne!(node.run(again).await.unwrap(), first);
}

#[tokio::test]
async fn a_caller_that_gives_up_finds_its_sandbox_later() {
    requires_root!();
    let mut node = Node::start().await;
    let config = requests::sandbox(&node, "patient");
    let mut request = tonic::Request::new(v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        ..Default::default()
    });
    request.set_timeout(std::time::Duration::from_millis(1));
    let status = node.runtime.run_pod_sandbox(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    let id = node.run(config).await.unwrap();
    assert_eq!(node.pods(v1::PodSandboxFilter::default()).await.len(), 1);
    node.remove_pod(&id).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn lists_are_filtered_and_ids_may_be_short() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "labelled");
    config.labels = HashMap::from([("app".to_owned(), "a".to_owned())]);
    config.annotations = HashMap::from([("note".to_owned(), "x".repeat(300_000))]);
    let labelled = node.run(config.clone()).await.unwrap();
    let plain = node.pod("plain").await;
    node.stop_pod(&plain).await.unwrap();

    let selector = HashMap::from([("app".to_owned(), "a".to_owned())]);
    let found = node
        .pods(v1::PodSandboxFilter { label_selector: selector.clone(), ..Default::default() })
        .await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].annotations, config.annotations);
    let ready = v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxReady.into() };
    let found = node.pods(v1::PodSandboxFilter { state: Some(ready), ..Default::default() }).await;
    assert_eq!(found.iter().map(|pod| &pod.id).collect::<Vec<_>>(), [&labelled]);
    let both = v1::PodSandboxFilter {
        id: plain[..12].to_owned(),
        state: Some(ready),
        label_selector: selector,
    };
    assert!(node.pods(both).await.is_empty());
    assert_eq!(node.pod_status(&plain[..10]).await.unwrap().id, plain);
}

#[tokio::test]
async fn settings_of_the_network_are_set_when_its_interfaces_are_there() {
    requires_root!();
    let mut node = Node::start().await;
    let of_the_node = || std::fs::read("/proc/sys/net/ipv6/conf/all/disable_ipv6").unwrap();
    let before = of_the_node();
    let mut config = requests::sandbox(&node, "settings");
    config.linux.as_mut().unwrap().sysctls = HashMap::from(
        [("net.ipv4.conf.eth0.rp_filter", "2"), ("net.ipv6.conf.all.disable_ipv6", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let pod = node.run(config).await.unwrap();
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    assert_eq!(node.output(&id, "cat /proc/sys/net/ipv4/conf/eth0/rp_filter").await, "2");
    assert_eq!(node.output(&id, "cat /proc/net/if_inet6").await, "", "it wants no IPv6");
    assert_eq!(of_the_node(), before, "the node's is not touched");
    node.remove_pod(&pod).await.unwrap();

    let mut config = requests::sandbox(&node, "wrong");
    config.linux.as_mut().unwrap().sysctls =
        HashMap::from([("net.ipv4.conf.eth7.rp_filter".to_owned(), "2".to_owned())]);
    let error = node.run(config).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("no sysctl net.ipv4.conf.eth7.rp_filter"), "{error}");
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn containers_share_the_pods_names_memory_and_network() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "sharing");
    config.dns_config = Some(v1::DnsConfig {
        servers: vec!["10.0.0.53".to_owned()],
        searches: vec!["cluster.local".to_owned()],
        options: vec!["ndots:5".to_owned()],
    });
    config.linux.as_mut().unwrap().sysctls =
        HashMap::from([("net.ipv4.ip_local_port_range".to_owned(), "40000 41000".to_owned())]);
    let pod = node.run(config).await.unwrap();
    let one = node.launch(&pod, requests::script("one", "sleep 1000")).await;
    let other = node
        .launch(
            &pod,
            requests::script(
                "other",
                "mkdir /www; echo served > /www/index.html; httpd -f -p 8080 -h /www",
            ),
        )
        .await;

    assert_eq!(node.output(&one, "hostname").await, "sharing");
    assert_eq!(node.output(&one, "cat /etc/hostname").await, "sharing");
    let resolv_conf = node.output(&one, "cat /etc/resolv.conf").await;
    assert_eq!(resolv_conf, "search cluster.local\nnameserver 10.0.0.53\noptions ndots:5");
    assert_eq!(
        node.output(&one, "cat /proc/sys/net/ipv4/ip_local_port_range").await,
        "40000\t41000"
    );
    assert_eq!(node.output(&one, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await, "0");
    node.output(&one, "echo hi > /dev/shm/file").await;
    assert_eq!(node.output(&other, "cat /dev/shm/file").await, "hi");
    assert_eq!(node.output(&one, "wget -q -O - http://127.0.0.1:8080/").await, "served");
    let namespaces = "stat -c %N /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts";
    assert_eq!(node.output(&one, namespaces).await, node.output(&other, namespaces).await);
    assert!(!node.output(&one, "ps").await.contains("httpd"));

    let ip = node.pod_status(&pod).await.unwrap().network.unwrap().ip;
    let neighbour = node.pod("neighbour").await;
    let client = node.launch(&neighbour, requests::script("client", "sleep 1000")).await;
    let fetched = node.output(&client, &format!("wget -q -O - http://{ip}:8080/")).await;
    assert_eq!(fetched, "served");
}

#[tokio::test]
async fn a_pod_can_share_its_processes() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "processes");
    let shared = v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() };
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = Some(shared.clone());
    let pod = node.run(config).await.unwrap();
    let mut one = requests::script("one", "sleep 1111");
    requests::security(&mut one).namespace_options = Some(shared.clone());
    let mut other = requests::script("other", "(sleep 2222 &) ; sleep 3333");
    requests::security(&mut other).namespace_options = Some(shared);
    let one = node.launch(&pod, one).await;
    let other = node.launch(&pod, other).await;
    let processes = node.output(&one, "ps").await;
    for process in ["sleep 1111", "sleep 2222", "sleep 3333"] {
        assert!(processes.contains(process), "{processes}");
    }
    // The init shows nothing of the host.
    assert_eq!(node.output(&one, "ls /proc/1/root/ | wc -l || true").await, "0");
    // What a container leaves in the shared namespace ends with it.
    node.stop(&other, 0).await.unwrap();
    let processes = node.output(&one, "ps").await;
    assert!(!processes.contains("sleep 2222"), "{processes}");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_pod_can_use_the_hosts_namespaces() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "host");
    let host = v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        pid: v1::NamespaceMode::Node.into(),
        ipc: v1::NamespaceMode::Node.into(),
        ..Default::default()
    };
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = Some(host.clone());
    let pod = node.run(config).await.unwrap();
    assert_eq!(node.pod_status(&pod).await.unwrap().network.unwrap().ip, "");
    let mut container = requests::script("c", "sleep 4444");
    requests::security(&mut container).namespace_options = Some(host);
    let id = node.launch(&pod, container).await;
    for kind in ["pid", "ipc", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let inside = node.output(&id, &format!("stat -c %N /proc/self/ns/{kind}")).await;
        assert!(inside.contains(&*own.to_string_lossy()), "{kind}: {inside}");
    }
    node.stop(&id, 0).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn host_ports_lead_to_the_pod() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "port");
    config.port_mappings =
        vec![v1::PortMapping { container_port: 8080, host_port: 18080, ..Default::default() }];
    let pod = node.run(config).await.unwrap();
    let server = "mkdir /www; echo served > /www/index.html; httpd -f -p 8080 -h /www";
    node.launch(&pod, requests::script("c", server)).await;
    let other = node.pod("client").await;
    let client = node.launch(&other, requests::script("c", "sleep 1000")).await;
    let fetch =
        "for i in $(seq 50); do wget -q -O - http://10.88.0.1:18080/ && break; usleep 50000; done";
    assert_eq!(node.output(&client, fetch).await, "served");
    node.stop_pod(&pod).await.unwrap();
    let gone = node.exec(&client, "wget -q -T 2 -O - http://10.88.0.1:18080/", 10).await.unwrap();
    assert_ne!(gone.exit_code, 0);
}

#[tokio::test]
async fn pods_take_the_monitors_that_wait() {
    requires_root!();
    let mut node = Node::start_with("warm_monitors = 1").await;
    let waiting = |node: &Node| std::fs::read_dir(node.path("state/pool")).unwrap().count();
    eventually("two monitors wait", async || waiting(&node) == 2 && node.monitors().len() == 2)
        .await;
    let pod = node.pod("warm").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    assert_eq!(node.output(&container, "hostname").await, "warm");
    let ip = node.pod_status(&pod).await.unwrap().network.unwrap().ip;
    assert!(node.output(&container, "ip addr").await.contains(&ip));
    eventually("the next ones wait", async || waiting(&node) == 2 && node.monitors().len() == 3)
        .await;
    // Those that wait end with their daemon; that of the pod does not.
    node.kill_daemon();
    eventually("the pod's monitor is left", async || node.monitors().len() == 1).await;
    node.start_daemon().await;
    assert_eq!(node.output(&container, "hostname").await, "warm");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
