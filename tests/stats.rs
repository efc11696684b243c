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
        let id = |stats: &v1::ContainerStats| stats.attributes.as_ref().unwrap().id.clone();
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
        node.remove_pod(&pod.attributes.unwrap().id).await.unwrap();
    }
}
