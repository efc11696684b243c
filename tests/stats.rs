//! What pods and containers use: figures beside what the kernel says, under known loads.

mod common;

use common::{Node, eventually, requests};
use criquet::cri::v1;
use tokio_stream::StreamExt;

const MEBIBYTE: u64 = 1 << 20;

async fn stats_of(node: &mut Node, id: &str) -> v1::ContainerStats {
    let request = v1::ContainerStatsRequest { container_id: id.to_owned() };
    node.runtime.container_stats(request).await.unwrap().into_inner().stats.unwrap()
}

fn cpu_of(stats: &v1::ContainerStats) -> &v1::CpuUsage {
    stats.cpu.as_ref().unwrap()
}

#[tokio::test]
async fn memory_and_processor_time_are_what_a_known_load_takes() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let load = "dd if=/dev/zero of=/dev/shm/x bs=1024k count=32 2>/dev/null; echo full; \
                while :; do :; done";
    let mut config = requests::script("load", load);
    requests::resources(&mut config).memory_limit_in_bytes = 256 << 20;
    let log = node.container_log(&config);
    let busy = node.launch(&pod, config).await;
    let idle = node.launch(&pod, requests::script("idle", "sleep 1000")).await;
    eventually("the load is there", async || {
        common::log_texts(&log, "stdout") == ["full".to_owned()]
    })
    .await;
    let first = stats_of(&mut node, &busy).await;
    let memory = first.memory.as_ref().unwrap();
    let usage = memory.usage_bytes.unwrap().value;
    assert!((32 * MEBIBYTE..40 * MEBIBYTE).contains(&usage), "{memory:?}");
    let working_set = memory.working_set_bytes.unwrap().value;
    assert!((32 * MEBIBYTE..=usage).contains(&working_set), "{memory:?}");
    let available = memory.available_bytes.unwrap().value;
    assert_eq!(available, 256 * MEBIBYTE - working_set);
    assert!(memory.timestamp > 0);

    let mut rate = 0;
    eventually("the rate of the busy one is known", async || {
        let stats = stats_of(&mut node, &busy).await;
        rate = cpu_of(&stats).usage_nano_cores.map_or(0, |value| value.value);
        rate > 0
    })
    .await;
    // A loop takes a processor, or its share of one beside other tests.
    assert!((50_000_000..1_200_000_000).contains(&rate), "{rate}");
    let second = stats_of(&mut node, &busy).await;
    let used = |stats: &v1::ContainerStats| cpu_of(stats).usage_core_nano_seconds.unwrap().value;
    assert!(used(&second) > used(&first));
    assert!(cpu_of(&second).timestamp > cpu_of(&first).timestamp);
    assert!(used(&stats_of(&mut node, &idle).await) < used(&second));

    // The kernel's counters go on, whoever reads them.
    node.kill_daemon();
    node.start_daemon().await;
    let third = stats_of(&mut node, &busy).await;
    assert!(used(&third) > used(&second));
    assert!(cpu_of(&third).usage_nano_cores.is_none(), "one reading has no rate");
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn lists_and_streams_tell_the_same_of_what_runs() {
    requires_root!();
    let mut node = Node::start().await;
    let mut running = Vec::new();
    for number in 0..3 {
        let pod = node.pod(&format!("p{number}")).await;
        running.push(node.launch(&pod, requests::script("c", "sleep 1000")).await);
        node.result_of(&pod, requests::script("ended", "true")).await;
    }
    running.sort();
    let ids = |stats: &[v1::ContainerStats]| {
        let id =
            |stats: &v1::ContainerStats| stats.attributes.as_ref().unwrap().plain().unwrap().id;
        let mut ids: Vec<String> = stats.iter().map(id).collect();
        ids.sort();
        ids
    };
    let list = v1::ListContainerStatsRequest::default();
    let list = node.runtime.list_container_stats(list).await.unwrap().into_inner().stats;
    assert_eq!(ids(&list), running);
    let stream = v1::StreamContainerStatsRequest::default();
    let stream = node.runtime.stream_container_stats(stream).await.unwrap().into_inner();
    let messages: Vec<_> = stream.collect().await;
    let streamed: Vec<_> =
        messages.into_iter().flat_map(|message| message.unwrap().container_stats).collect();
    assert_eq!(ids(&streamed), running);

    let filter = v1::ContainerStatsFilter { id: running[0].clone(), ..Default::default() };
    let request = v1::ListContainerStatsRequest { filter: Some(filter) };
    let one = node.runtime.list_container_stats(request).await.unwrap().into_inner().stats;
    assert_eq!(ids(&one), running[..1]);

    let request = v1::ListPodSandboxStatsRequest::default();
    let pods = node.runtime.list_pod_sandbox_stats(request).await.unwrap().into_inner().stats;
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        let linux = pod.linux.as_ref().unwrap();
        assert_eq!(linux.containers.len(), 1, "those that run");
        assert!(linux.process.as_ref().unwrap().process_count.unwrap().value >= 1);
        let network = linux.network.as_ref().unwrap();
        assert_eq!(network.default_interface.as_ref().unwrap().name, "eth0");
        let usage = linux.memory.as_ref().unwrap().usage_bytes.unwrap().value;
        let of_container = &linux.containers[0].memory.as_ref().unwrap();
        assert!(usage >= of_container.working_set_bytes.unwrap().value);
    }
    let stream = node.runtime.stream_pod_sandboxes(v1::StreamPodSandboxesRequest::default());
    let messages: Vec<_> = stream.await.unwrap().into_inner().collect().await;
    let count: usize =
        messages.into_iter().map(|message| message.unwrap().pod_sandboxes.len()).sum();
    assert_eq!(count, 3);
    let stream = node.runtime.stream_containers(v1::StreamContainersRequest::default());
    let messages: Vec<_> = stream.await.unwrap().into_inner().collect().await;
    let count: usize = messages.into_iter().map(|message| message.unwrap().containers.len()).sum();
    assert_eq!(count, 6);
    for pod in pods {
        node.remove_pod(&pod.attributes.unwrap().plain().unwrap().id).await.unwrap();
    }
}

#[tokio::test]
async fn memory_of_what_does_not_run_is_not_read_again_and_says_so() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let id = node.launch(&pod, requests::script("idle", "sleep 1000")).await;
    let times = |stats: &v1::ContainerStats| {
        (cpu_of(stats).timestamp, stats.memory.as_ref().unwrap().timestamp)
    };
    eventually("it is at rest", async || {
        let first = times(&stats_of(&mut node, &id).await);
        let second = times(&stats_of(&mut node, &id).await);
        second.0 > first.0 && second.1 == first.1
    })
    .await;
    let before = times(&stats_of(&mut node, &id).await);
    let run = v1::ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["true"].map(str::to_owned).into(),
        timeout: 10,
    };
    node.runtime.exec_sync(run).await.unwrap();
    let after = times(&stats_of(&mut node, &id).await);
    assert!(after.1 > before.1, "something has run in it: {before:?} {after:?}");
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn who_runs_in_a_pod_is_seen_beside_one_who_does_not() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let mut ids = Vec::new();
    for name in ["one", "other"] {
        ids.push(node.launch(&pod, requests::script(name, "sleep 1000")).await);
    }
    let runtime = node.runtime.clone();
    let listed = async |id: &str| {
        let request = v1::ListContainerStatsRequest::default();
        let stats = runtime.clone().list_container_stats(request).await.unwrap().into_inner().stats;
        let of = |stats: &v1::ContainerStats| {
            stats.attributes.as_ref().unwrap().plain().unwrap().id == id
        };
        let own = stats.into_iter().find(of).unwrap();
        (cpu_of(&own).usage_core_nano_seconds.unwrap().value, cpu_of(&own).timestamp)
    };
    eventually("it is at rest", async || {
        let first = listed(&ids[0]).await;
        let second = listed(&ids[0]).await;
        second.1 > first.1 && second.0 == first.0
    })
    .await;
    let before = listed(&ids[0]).await.0;
    let run = v1::ExecSyncRequest {
        container_id: ids[0].clone(),
        cmd: ["true"].map(str::to_owned).into(),
        timeout: 10,
    };
    node.runtime.exec_sync(run).await.unwrap();
    eventually("it has run", async || listed(&ids[0]).await.0 > before).await;
    let one = listed(&ids[0]).await.0;
    assert_eq!(listed(&ids[0]).await.0, one, "and now rests");
    node.remove_pod(&pod).await.unwrap();
}

async fn network_of(node: &mut Node, pod: &str) -> v1::NetworkInterfaceUsage {
    let request = v1::PodSandboxStatsRequest { pod_sandbox_id: pod.to_owned() };
    let stats = node.runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    stats.linux.unwrap().network.unwrap().default_interface.unwrap()
}

#[tokio::test]
async fn bytes_on_the_network_are_those_that_were_sent() {
    requires_root!();
    const SENT: u64 = 16 * MEBIBYTE;
    /// Headers, and what else is said on a network.
    const MORE: u64 = SENT / 20;
    let mut node = Node::start().await;
    let (from, to) = (node.pod("from").await, node.pod("to").await);
    let address = node.pod_status(&from).await.unwrap().network.unwrap().ip;
    let serve =
        format!("mkdir /www; head -c {SENT} /dev/zero > /www/x; exec httpd -f -p 7000 -h /www");
    node.launch(&from, requests::script("server", &serve)).await;
    let ask = format!("http://{address}:7000/");
    let wait = format!("until wget -q -O /dev/null {ask}x -S 2>&1; do sleep 0.1; done; echo up");
    let (_, text) = node.result_of(&to, requests::script("wait", &wait)).await;
    assert!(text.ends_with("up"), "{text}");
    let before = [network_of(&mut node, &to).await, network_of(&mut node, &from).await];
    let fetch = format!("wget -q -O - {ask}x | wc -c");
    let (_, text) = node.result_of(&to, requests::script("client", &fetch)).await;
    assert_eq!(text.trim(), SENT.to_string());
    let after = [network_of(&mut node, &to).await, network_of(&mut node, &from).await];
    let value = |value: &Option<v1::UInt64Value>| value.unwrap().value;
    let received = value(&after[0].rx_bytes) - value(&before[0].rx_bytes);
    let sent = value(&after[1].tx_bytes) - value(&before[1].tx_bytes);
    for (what, bytes) in [("received", received), ("sent", sent)] {
        assert!((SENT..SENT + MORE).contains(&bytes), "{what}: {bytes}");
    }
    for pod in [to, from] {
        node.remove_pod(&pod).await.unwrap();
    }
}

/// Processor time of a container as the kernel has it, in nanoseconds.
fn cpu_of_cgroup(node: &Node, pod: &str, id: &str) -> u64 {
    let path = format!("{}/{pod}/{id}", node.cgroup);
    let v1 = format!("/sys/fs/cgroup/cpuacct/{path}/cpuacct.usage");
    if let Ok(text) = std::fs::read_to_string(v1) {
        return text.trim().parse().unwrap();
    }
    let v2 = std::fs::read_to_string(format!("/sys/fs/cgroup/{path}/cpu.stat")).unwrap();
    let line = v2.lines().find_map(|line| line.strip_prefix("usage_usec "));
    line.unwrap().parse::<u64>().unwrap() * 1000
}

#[tokio::test]
async fn processor_time_lies_between_two_looks_at_the_kernels() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let busy = node.launch(&pod, requests::script("busy", "while :; do :; done")).await;
    for _ in 0..20 {
        let before = cpu_of_cgroup(&node, &pod, &busy);
        let stats = stats_of(&mut node, &busy).await;
        let after = cpu_of_cgroup(&node, &pod, &busy);
        let told = cpu_of(&stats).usage_core_nano_seconds.unwrap().value;
        assert!((before..=after).contains(&told), "{before} {told} {after}");
    }
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn a_pod_whose_monitor_does_not_answer_takes_no_figures_along() {
    requires_root!();
    let mut node = Node::start().await;
    let (silent, well) = (node.pod("silent").await, node.pod("well").await);
    let mut running = Vec::new();
    for pod in [&silent, &well] {
        running.push(node.launch(pod, requests::script("c", "sleep 1000")).await);
    }
    running.sort();
    let monitor = node.monitor_of(&silent);
    rustix::process::kill_process(monitor, rustix::process::Signal::STOP).unwrap();
    let request = v1::ListContainerStatsRequest::default();
    let call = node.runtime.list_container_stats(request);
    let stats = common::answered("ListContainerStats", call).await.unwrap().into_inner().stats;
    let mut ids: Vec<String> = stats
        .iter()
        .map(|stats| stats.attributes.as_ref().unwrap().plain().unwrap().id.clone())
        .collect();
    ids.sort();
    // The kernel tells of both; nobody else need be asked.
    assert_eq!(ids, running);
    let request = v1::ListPodSandboxMetricsRequest {};
    let call = node.runtime.list_pod_sandbox_metrics(request);
    let metrics = common::answered("ListPodSandboxMetrics", call).await.unwrap().into_inner();
    assert_eq!(metrics.pod_metrics.len(), 2);
    rustix::process::kill_process(monitor, rustix::process::Signal::CONT).unwrap();
    for pod in [silent, well] {
        node.remove_pod(&pod).await.unwrap();
    }
}

#[tokio::test]
async fn what_has_just_begun_is_in_the_next_list() {
    requires_root!();
    let mut node = Node::start().await;
    for round in 0..4 {
        // The pod alone first, and then with its container.
        let pod = node.pod(&format!("p{round}")).await;
        let request = v1::ListPodSandboxStatsRequest::default();
        let pods = node.runtime.list_pod_sandbox_stats(request).await.unwrap().into_inner().stats;
        let is_it = |stats: &v1::PodSandboxStats| {
            stats.attributes.as_ref().unwrap().plain().unwrap().id == pod
        };
        assert!(pods.iter().any(is_it), "round {round}");
        let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
        let request = v1::ListContainerStatsRequest::default();
        let all = node.runtime.list_container_stats(request).await.unwrap().into_inner().stats;
        let ids: Vec<_> =
            all.into_iter().map(|stats| stats.attributes.unwrap().plain().unwrap().id).collect();
        assert!(ids.contains(&container), "round {round}: {ids:?}");
        let request = v1::ListPodSandboxMetricsRequest::default();
        let metrics = node.runtime.list_pod_sandbox_metrics(request).await.unwrap().into_inner();
        let pods = metrics.pod_metrics.iter().map(|metrics| metrics.plain().unwrap());
        let its = pods.into_iter().find(|metrics| metrics.pod_sandbox_id == pod).unwrap();
        assert!(!its.metrics.is_empty() && its.container_metrics.len() == 1, "round {round}");
    }
}
