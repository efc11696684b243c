//! Metrics of pods and containers as a kubelet without cAdvisor asks for them.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use common::{Node, answered, hang::Hanging, requests};
use criquet::cri::{PlainPodSandboxMetrics, v1};
use tokio_stream::StreamExt;

const MEBIBYTE: u64 = 1 << 20;

type Table = BTreeMap<String, Vec<String>>;

async fn table(node: &mut Node) -> Table {
    let request = v1::ListMetricDescriptorsRequest {};
    let answer = node.runtime.list_metric_descriptors(request).await.unwrap().into_inner();
    answer.descriptors.into_iter().map(|d| (d.name, d.label_keys)).collect()
}

async fn metrics(node: &mut Node) -> Vec<PlainPodSandboxMetrics> {
    let request = v1::ListPodSandboxMetricsRequest {};
    let answer = node.runtime.list_pod_sandbox_metrics(request).await.unwrap().into_inner();
    answer.pod_metrics.iter().map(|metrics| metrics.plain().unwrap()).collect()
}

/// The labels of a metric by their keys; there is a value for each.
fn labels<'a>(table: &'a Table, metric: &'a v1::Metric) -> BTreeMap<&'a str, &'a str> {
    let keys = &table[&metric.name];
    assert_eq!(keys.len(), metric.label_values.len(), "{metric:?}");
    keys.iter().map(String::as_str).zip(metric.label_values.iter().map(String::as_str)).collect()
}

/// The value of the metrics of a name, all together.
fn value(metrics: &[v1::Metric], name: &str) -> Option<u64> {
    let of_name = metrics.iter().filter(|metric| metric.name == name);
    of_name.map(|metric| metric.value.as_ref().unwrap().value).reduce(|one, other| one + other)
}

/// A file of a cgroup, wherever version 1 or version 2 has it.
fn cgroup_file(path: &str, v1: (&str, &str), v2: &str) -> u64 {
    let root = PathBuf::from("/sys/fs/cgroup");
    let path = path.trim_start_matches('/');
    let file = root.join(path).join(v2);
    let file = if file.exists() { file } else { root.join(v1.0).join(path).join(v1.1) };
    fs::read_to_string(&file).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_new_container_has_all_its_metrics_in_the_first_answer() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let load = "dd if=/dev/zero of=/written bs=1024k count=3 2>/dev/null; echo done; sleep 1000";
    let mut config = requests::script("c", load);
    let limits = requests::resources(&mut config);
    limits.cpu_period = 100_000;
    limits.cpu_quota = 20_000;
    limits.memory_limit_in_bytes = 64 << 20;
    let log = node.container_log(&config);
    let container = node.launch(&pod, config).await;
    common::eventually("it has written", async || {
        common::log_texts(&log, "stdout") == ["done".to_owned()]
    })
    .await;
    let table = table(&mut node).await;
    let all = metrics(&mut node).await;
    let [of_pod] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(of_pod.pod_sandbox_id, pod);
    let [of_container] = of_pod.container_metrics.as_slice() else { panic!("{of_pod:?}") };
    assert_eq!(of_container.container_id, container);
    let (own, of_pod) = (&of_container.metrics, &of_pod.metrics);

    // All but what a kernel may not give.
    let told: BTreeSet<&str> =
        own.iter().chain(of_pod).map(|metric| metric.name.as_str()).collect();
    let may_be_absent = |name: &str| {
        ["container_pressure_", "container_hugetlb_", "container_blkio_", "container_fs_reads_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || name.starts_with("container_fs_writes_")
            || name == "container_memory_swap"
            || name == "container_spec_memory_swap_limit_bytes"
            || name == "container_memory_max_usage_bytes"
    };
    let missing = table.keys().filter(|name| !told.contains(name.as_str()) && !may_be_absent(name));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());

    let labels_of_one = labels(&table, own.first().unwrap());
    let id = labels_of_one["id"];
    assert!(id.ends_with(&container), "{id}");
    for metric in own {
        let labels = labels(&table, metric);
        assert_eq!((labels["container"], labels["pod"]), ("c", "pod"));
        assert_eq!((labels["namespace"], labels["name"]), ("tests", container.as_str()));
        assert_eq!((labels["id"], labels["image"]), (id, common::image::NAME));
        assert!(metric.timestamp > 0, "{metric:?}");
    }
    let value = |name: &str| value(&of_container.metrics, name).unwrap();
    assert_eq!(value("container_spec_memory_limit_bytes"), 64 * MEBIBYTE);
    assert_eq!(value("container_spec_cpu_quota"), 20_000);
    let written = value("container_fs_usage_bytes");
    assert!((3 * MEBIBYTE..4 * MEBIBYTE).contains(&written), "{written}");
    assert!((1..=2).contains(&value("container_processes")));
    assert!(value("container_file_descriptors") >= 3);
    assert_eq!(value("container_oom_events_total"), 0);
    let usage = cgroup_file(id, ("memory", "memory.usage_in_bytes"), "memory.current");
    let told = value("container_memory_usage_bytes");
    assert!(told.abs_diff(usage) < usage / 20 + MEBIBYTE, "{told} beside {usage}");
    let network = of_pod.iter().find(|m| m.name.starts_with("container_network_")).unwrap();
    let labels = labels(&table, network);
    assert_eq!((labels["interface"], labels["name"], labels["pod"]), ("eth0", pod.as_str(), "pod"));
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn lists_and_streams_tell_each_metric_once_and_of_ready_pods_alone() {
    requires_root!();
    let mut node = Node::start().await;
    let mut ready = BTreeSet::new();
    let parent = format!("/{}/both", node.cgroup);
    // Several with one cgroup, as clients without a kubelet may have them.
    let config = |node: &Node, uid: &str| {
        let mut config = requests::sandbox(node, uid);
        config.linux.get_or_insert_default().cgroup_parent = parent.clone();
        config.metadata.as_mut().unwrap().name = "same".to_owned();
        config
    };
    let mut stopped = Vec::new();
    for name in ["three", "four", "five"] {
        let pod = node.run(config(&node, name)).await.unwrap();
        node.stop_pod(&pod).await.unwrap();
        stopped.push(pod);
    }
    for name in ["one", "two"] {
        let pod = node.run(config(&node, name)).await.unwrap();
        node.launch(&pod, requests::script("c", "sleep 1000")).await;
        node.result_of(&pod, requests::script("ended", "true")).await;
        ready.insert(pod);
    }

    let list = metrics(&mut node).await;
    let request = v1::StreamPodSandboxMetricsRequest {};
    let stream = node.runtime.stream_pod_sandbox_metrics(request).await.unwrap().into_inner();
    let messages: Vec<_> = stream.collect().await;
    let streamed = messages.into_iter().flat_map(|message| message.unwrap().pod_sandbox_metrics);
    let streamed: Vec<_> = streamed.map(|metrics| metrics.plain().unwrap()).collect();
    for answer in [&list, &streamed] {
        let ids = answer.iter().map(|metrics| metrics.pod_sandbox_id.clone());
        assert_eq!(ids.collect::<BTreeSet<_>>(), ready);
        assert_eq!(answer.len(), ready.len());
        let mut seen = BTreeSet::new();
        for pod in answer {
            assert_eq!(pod.container_metrics.len(), 1, "those that run");
            let of_containers = pod.container_metrics.iter().flat_map(|c| &c.metrics);
            for metric in pod.metrics.iter().chain(of_containers) {
                let key = (metric.name.clone(), metric.label_values.clone());
                assert!(
                    seen.insert(key),
                    "a kubelet takes nothing that is there twice: {metric:?}"
                );
            }
        }
        let has_cgroup = |pod: &&PlainPodSandboxMetrics| {
            value(&pod.metrics, "container_cpu_usage_seconds_total").is_some()
        };
        assert_eq!(answer.iter().filter(has_cgroup).count(), 1, "the cgroup is told of once");
    }
    for pod in ready.into_iter().chain(stopped) {
        node.remove_pod(&pod).await.unwrap();
    }
}

#[tokio::test]
async fn counters_go_on_over_a_restart_of_the_daemon() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let load = "while :; do head -c 100000 /dev/urandom > /dev/null; done";
    node.launch(&pod, requests::script("c", load)).await;
    let counters = async |node: &mut Node| -> BTreeMap<(String, Vec<String>), u64> {
        let all = metrics(node).await.into_iter();
        let all = all.flat_map(|pod| {
            pod.container_metrics.into_iter().flat_map(|c| c.metrics).chain(pod.metrics)
        });
        all.filter(|metric| metric.metric_type() == v1::MetricType::Counter)
            .map(|metric| ((metric.name, metric.label_values), metric.value.unwrap().value))
            .collect()
    };
    let mut before = counters(&mut node).await;
    assert!(before.len() > 20, "{before:?}");
    for restarts in [false, false, true, false] {
        if restarts {
            node.kill_daemon();
            node.start_daemon().await;
        }
        let after = counters(&mut node).await;
        for (key, old) in &before {
            let new = after.get(key);
            assert!(new.is_some_and(|new| new >= old), "{key:?}: {old} and then {new:?}");
        }
        before = after;
    }
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_hangs_takes_its_own_figures_along_and_no_others() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let mut hanging = Hanging::at(&node.path("root/containers"));
    // The second answer is asked for while a thread still waits for the first.
    for _ in 0..2 {
        let all = answered("ListPodSandboxMetrics", metrics(&mut node)).await;
        let own = &all[0].container_metrics[0].metrics;
        assert!(value(own, "container_memory_usage_bytes").unwrap() > 0);
        assert!(value(own, "container_processes").unwrap() > 0);
        assert_eq!(value(own, "container_fs_usage_bytes"), None);
    }
    hanging.abort();
    drop(hanging);
    common::eventually("its figures are there again", async || {
        let all = metrics(&mut node).await;
        value(&all[0].container_metrics[0].metrics, "container_fs_usage_bytes").is_some()
    })
    .await;
    node.remove_pod(&pod).await.unwrap();
}
