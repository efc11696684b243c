use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::{Encoder, Facts, Labels, OfContainer, Subject, Table};
use crate::{
    cri::v1,
    pod::{Measured, Usage},
    spec::config::Resources,
    stats::{
        Cpu, Details, Device, DeviceNames, Disk, Hugepages, Interface, Memory, Parts, Pressure,
        Processes, Reading, Swap, Times, Waited,
    },
};

const SECOND: u64 = 1_000_000_000;
const OWN: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// The metrics of a subject.
fn metrics(
    table: &Table,
    subject: Subject,
    labels: &Labels<'_>,
    facts: &Facts<'_>,
) -> Vec<v1::Metric> {
    let mut encoder = Encoder::new("x", 0);
    table.add(subject, labels, facts, &mut encoder);
    v1::ContainerMetrics::decode(encoder.bytes()).unwrap().metrics
}

/// A metric by what Prometheus would show.
fn shown(table: &Table, metrics: &[v1::Metric]) -> BTreeMap<String, (u64, i64)> {
    let descriptors = table.descriptors();
    let line = |metric: &v1::Metric| {
        let descriptor = descriptors.iter().find(|d| d.name == metric.name).unwrap();
        assert_eq!(descriptor.label_keys.len(), metric.label_values.len(), "{metric:?}");
        let labels = descriptor.label_keys.iter().zip(&metric.label_values);
        let more = labels.filter(|(key, _)| !OWN.contains(&key.as_str()));
        let more: Vec<String> = more.map(|(key, value)| format!("{key}={value}")).collect();
        let name = metric.name.strip_prefix("container_").unwrap();
        (
            format!("{name}{{{}}}", more.join(",")),
            (metric.value.as_ref().unwrap().value, metric.timestamp),
        )
    };
    let lines: Vec<_> = metrics.iter().map(line).collect();
    let count = lines.len();
    let lines: BTreeMap<_, _> = lines.into_iter().collect();
    assert_eq!(lines.len(), count, "no two have the same labels");
    lines
}

fn reading() -> Reading {
    let waited = |seconds: u64| Waited { total: seconds * 1_000_000, ..Waited::default() };
    let pressure = Some(Pressure { some: waited(9), full: waited(4) });
    Reading {
        at: 1_000,
        rest_at: 1_000,
        cpu: Some(Cpu {
            usage: 7 * SECOND + 999,
            nano_cores: None,
            times: Times {
                user: Some(5 * SECOND),
                system: Some(2 * SECOND),
                periods: Some(10),
                throttled_periods: Some(3),
                throttled: Some(SECOND),
            },
            pressure,
        }),
        memory: Memory {
            usage: Some(100),
            working_set: Some(90),
            limit: Some(1000),
            rss: Some(50),
            faults: Some(8),
            major_faults: Some(2),
            parts: Parts { cache: Some(40), own_faults: Some(6), ..Parts::default() },
            pressure,
            ..Memory::default()
        },
        swap: Some(Swap { usage: 5, available: None, limit: None }),
        io: None,
    }
}

fn details() -> Details {
    let device = Device { read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 };
    Details {
        at: 2_000,
        max_usage: Some(200),
        limit_hits: Some(0),
        kernel: Some(30),
        oom_kills: Some(1),
        devices: Some([((4000, 1), device)].into()),
        hugepages: vec![Hugepages { size: "2MB".to_owned(), usage: Some(0), max_usage: None }],
        threads: Some(11),
        threads_max: Some(0),
        ..Details::default()
    }
}

#[test]
fn the_table_is_what_kubelets_and_dashboards_expect() {
    let descriptors = Table::built_in().descriptors();
    let names: BTreeSet<&str> = descriptors.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names.len(), descriptors.len(), "each once");
    for descriptor in &descriptors {
        assert!(!descriptor.help.is_empty(), "{descriptor:?}");
        assert!(descriptor.label_keys.is_sorted(), "as a kubelet shows them: {descriptor:?}");
        let keys: Vec<&str> = descriptor.label_keys.iter().map(String::as_str).collect();
        assert!(OWN.iter().all(|own| keys.contains(own)), "{descriptor:?}");
    }
    let more = |name: &str| -> Vec<&str> {
        let descriptor = descriptors.iter().find(|d| d.name == name).unwrap();
        let keys = descriptor.label_keys.iter().map(String::as_str);
        keys.filter(|key| !OWN.contains(key)).collect()
    };
    for (name, labels) in [
        ("container_cpu_usage_seconds_total", &["cpu"][..]),
        ("container_memory_failures_total", &["failure_type", "scope"]),
        ("container_network_receive_bytes_total", &["interface"]),
        ("container_fs_usage_bytes", &["device"]),
        ("container_blkio_device_usage_total", &["device", "major", "minor", "operation"]),
        ("container_ulimits_soft", &["ulimit"]),
        ("container_hugetlb_usage_bytes", &["pagesize"]),
        ("container_memory_working_set_bytes", &[]),
    ] {
        assert_eq!(more(name), labels, "{name}");
    }
}

#[test]
fn totals_are_counters_and_nothing_else_but_failures_is() {
    for family in Table::built_in().families.into_iter().map(|encodable| encodable.family) {
        let is_total = family.name.ends_with("_total") || family.name.ends_with("_failcnt");
        // A file system has so many, and the name is what it is.
        let is_total = is_total && family.name != "container_fs_inodes_total";
        assert_eq!(family.kind == super::Type::Counter, is_total, "{}", family.name);
    }
}

#[test]
fn a_container_has_what_is_known_of_it() {
    let table = Table::built_in();
    let counted = Processes {
        at: 3_000,
        processes: 2,
        descriptors: 9,
        sockets: 1,
        descriptors_max: Some(64),
    };
    let disk = (
        4_000,
        Disk {
            device: "/dev/sda1".to_owned(),
            capacity: 1 << 30,
            inodes: Some(500),
            inodes_free: None,
        },
    );
    let resources = Resources { cpu_quota: 20_000, ..Resources::default() };
    let names = DeviceNames::default();
    let (reading, details) = (reading(), details());
    let facts = Facts {
        started_at: 77 * SECOND as i64,
        reading: &reading,
        details: Some(&details),
        interfaces: None,
        container: Some(OfContainer {
            processes: Some(&counted),
            layer: Some(Measured::new(
                Usage { bytes: 4096, inodes: 2 },
                std::time::UNIX_EPOCH + std::time::Duration::from_nanos(5_000),
            )),
            disk: Some(&disk),
            resources: Some(&resources),
        }),
        names: &names,
    };
    let labels = Labels { container: "c", name: "id", ..Labels::default() };
    let metrics = metrics(&table, Subject::Container, &labels, &facts);
    let mut shown = shown(&table, &metrics);
    for (name, expected) in [
        ("cpu_usage_seconds_total{cpu=total}", (7, 1_000)),
        ("cpu_user_seconds_total{}", (5, 1_000)),
        ("cpu_system_seconds_total{}", (2, 1_000)),
        ("cpu_cfs_periods_total{}", (10, 1_000)),
        ("cpu_cfs_throttled_periods_total{}", (3, 1_000)),
        ("cpu_cfs_throttled_seconds_total{}", (1, 1_000)),
        ("last_seen{}", (0, 1_000)),
        ("start_time_seconds{}", (77, 1_000)),
        ("memory_usage_bytes{}", (100, 1_000)),
        ("memory_working_set_bytes{}", (90, 1_000)),
        ("memory_rss{}", (50, 1_000)),
        ("memory_cache{}", (40, 1_000)),
        ("memory_swap{}", (5, 1_000)),
        ("memory_kernel_usage{}", (30, 1_000)),
        ("memory_failcnt{}", (0, 2_000)),
        ("memory_max_usage_bytes{}", (200, 2_000)),
        ("memory_failures_total{failure_type=pgfault,scope=container}", (6, 1_000)),
        ("memory_failures_total{failure_type=pgfault,scope=hierarchy}", (8, 1_000)),
        ("memory_failures_total{failure_type=pgmajfault,scope=hierarchy}", (2, 1_000)),
        ("oom_events_total{}", (1, 2_000)),
        ("fs_usage_bytes{device=/dev/sda1}", (4096, 5_000)),
        ("fs_limit_bytes{device=/dev/sda1}", (1 << 30, 4_000)),
        ("fs_inodes_total{device=/dev/sda1}", (500, 4_000)),
        ("fs_reads_bytes_total{device=4000:1}", (1, 2_000)),
        ("fs_writes_bytes_total{device=4000:1}", (2, 2_000)),
        ("fs_reads_total{device=4000:1}", (3, 2_000)),
        ("fs_writes_total{device=4000:1}", (4, 2_000)),
        ("blkio_device_usage_total{device=4000:1,major=4000,minor=1,operation=Read}", (1, 2_000)),
        ("blkio_device_usage_total{device=4000:1,major=4000,minor=1,operation=Write}", (2, 2_000)),
        ("hugetlb_usage_bytes{pagesize=2MB}", (0, 2_000)),
        ("processes{}", (2, 3_000)),
        ("threads{}", (11, 2_000)),
        ("threads_max{}", (0, 2_000)),
        ("file_descriptors{}", (9, 3_000)),
        ("sockets{}", (1, 3_000)),
        ("ulimits_soft{ulimit=max_open_files}", (64, 3_000)),
        ("spec_cpu_period{}", (100_000, 1_000)),
        ("spec_cpu_quota{}", (20_000, 1_000)),
        ("spec_cpu_shares{}", (1024, 1_000)),
        ("spec_memory_limit_bytes{}", (1000, 1_000)),
        ("spec_memory_reservation_limit_bytes{}", (0, 1_000)),
        ("spec_memory_swap_limit_bytes{}", (0, 1_000)),
        ("pressure_cpu_waiting_seconds_total{}", (9, 1_000)),
        ("pressure_cpu_stalled_seconds_total{}", (4, 1_000)),
        ("pressure_memory_waiting_seconds_total{}", (9, 1_000)),
        ("pressure_memory_stalled_seconds_total{}", (4, 1_000)),
    ] {
        assert_eq!(shown.remove(name), Some(expected), "{name}");
    }
    // What is not known is absent: files of memory, pressure of devices, free inodes.
    assert!(shown.is_empty(), "{shown:?}");
}

#[test]
fn a_pod_has_its_cgroup_and_its_network() {
    let table = Table::built_in();
    let eth0 =
        Interface { name: "eth0".to_owned(), rx_bytes: 1, tx_dropped: 8, ..Default::default() };
    let interfaces = (6_000, vec![eth0]);
    let reading = Reading { at: 1_000, ..Reading::default() };
    let names = DeviceNames::default();
    let facts = Facts {
        started_at: 0,
        reading: &reading,
        details: None,
        interfaces: Some(&interfaces),
        container: None,
        names: &names,
    };
    let labels = Labels::default();
    let pod = shown(&table, &metrics(&table, Subject::Pod, &labels, &facts));
    let names: Vec<&str> = pod.keys().map(String::as_str).collect();
    assert_eq!(names, ["last_seen{}", "start_time_seconds{}"], "nothing else is known");
    let network = shown(&table, &metrics(&table, Subject::Network, &labels, &facts));
    assert_eq!(network.len(), 8);
    assert_eq!(network["network_receive_bytes_total{interface=eth0}"], (1, 6_000));
    assert_eq!(network["network_transmit_packets_dropped_total{interface=eth0}"], (8, 6_000));
}
