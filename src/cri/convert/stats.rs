//! Figures of pods and containers. What is not known is absent, never zero.

use std::path::Path;

use super::{container, sandbox};
use crate::{
    cri::{
        attributes::{PlainContainerAttributes, PlainPodSandboxAttributes, encoded_once},
        v1,
    },
    pod::{Container, Measured, PodReading, Sandbox},
    stats::{Interface, Pressure, Reading, Waited},
};

/// The interface that a pod is reached by.
const DEFAULT_INTERFACE: &str = "eth0";

fn value(value: u64) -> v1::UInt64Value {
    v1::UInt64Value { value }
}

fn waited(waited: Waited) -> v1::PsiData {
    v1::PsiData {
        total: waited.total,
        avg10: waited.avg10,
        avg60: waited.avg60,
        avg300: waited.avg300,
    }
}

fn pressure(pressure: Pressure) -> v1::PsiStats {
    v1::PsiStats { full: Some(waited(pressure.full)), some: Some(waited(pressure.some)) }
}

fn cpu(reading: &Reading) -> Option<v1::CpuUsage> {
    let cpu = reading.cpu?;
    Some(v1::CpuUsage {
        timestamp: reading.at,
        usage_core_nano_seconds: Some(value(cpu.usage)),
        usage_nano_cores: cpu.nano_cores.map(value),
        psi: cpu.pressure.map(pressure),
    })
}

fn memory(reading: &Reading) -> Option<v1::MemoryUsage> {
    let memory = reading.memory;
    memory.usage?;
    Some(v1::MemoryUsage {
        timestamp: reading.rest_at,
        working_set_bytes: memory.working_set.map(value),
        available_bytes: memory.available.map(value),
        usage_bytes: memory.usage.map(value),
        rss_bytes: memory.rss.map(value),
        page_faults: memory.faults.map(value),
        major_page_faults: memory.major_faults.map(value),
        psi: memory.pressure.map(pressure),
    })
}

fn swap(reading: &Reading) -> Option<v1::SwapUsage> {
    let swap = reading.swap?;
    Some(v1::SwapUsage {
        timestamp: reading.rest_at,
        swap_available_bytes: swap.available.map(value),
        swap_usage_bytes: Some(value(swap.usage)),
    })
}

fn io(reading: &Reading) -> Option<v1::IoUsage> {
    let psi = reading.io.map(pressure);
    psi.map(|psi| v1::IoUsage { timestamp: reading.rest_at, psi: Some(psi) })
}

/// What a container has written, below the directory of all containers.
fn writable_layer(root: &Path, measured: Measured) -> v1::FilesystemUsage {
    let since_epoch = measured.at.duration_since(std::time::UNIX_EPOCH);
    v1::FilesystemUsage {
        timestamp: since_epoch.map_or(0, |elapsed| elapsed.as_nanos() as i64),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: root.display().to_string() }),
        used_bytes: Some(value(measured.usage.bytes)),
        inodes_used: Some(value(measured.usage.inodes)),
    }
}

/// The figures of a container; without a reading it does not run.
pub fn of_container(
    container: &Container,
    reading: Option<&Reading>,
    root: &Path,
    written: Option<Measured>,
) -> v1::ContainerStats {
    let attributes = || {
        let item = container::plain_item(container);
        PlainContainerAttributes {
            id: item.id,
            metadata: item.metadata,
            labels: item.labels,
            annotations: item.annotations,
        }
    };
    v1::ContainerStats {
        attributes: Some(encoded_once(&container.told.attributes, attributes)),
        cpu: reading.and_then(cpu),
        memory: reading.and_then(memory),
        writable_layer: written.map(|measured| writable_layer(root, measured)),
        swap: reading.and_then(swap),
        io: reading.and_then(io),
    }
}

fn interface(interface: &Interface) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: Some(value(interface.rx_bytes)),
        rx_errors: Some(value(interface.rx_errors)),
        tx_bytes: Some(value(interface.tx_bytes)),
        tx_errors: Some(value(interface.tx_errors)),
    }
}

fn network((timestamp, all): &(i64, Vec<Interface>)) -> v1::NetworkUsage {
    let is_default = |interface: &&Interface| interface.name == DEFAULT_INTERFACE;
    v1::NetworkUsage {
        timestamp: *timestamp,
        default_interface: all.iter().find(is_default).map(interface),
        interfaces: all.iter().filter(|other| !is_default(other)).map(interface).collect(),
    }
}

/// The figures of a pod with those of its containers.
pub fn of_sandbox(
    pod: &Sandbox,
    reading: Option<&PodReading>,
    containers: Vec<v1::ContainerStats>,
) -> v1::PodSandboxStats {
    let attributes = || {
        let item = sandbox::plain_item(pod);
        PlainPodSandboxAttributes {
            id: item.id,
            metadata: item.metadata,
            labels: item.labels,
            annotations: item.annotations,
        }
    };
    let of_cgroup = reading.map(|reading| &reading.reading);
    let threads = reading.and_then(|reading| Some((reading.reading.at, reading.threads?)));
    v1::PodSandboxStats {
        attributes: Some(encoded_once(&pod.told.attributes, attributes)),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: of_cgroup.and_then(cpu),
            memory: of_cgroup.and_then(memory),
            network: reading.and_then(|reading| reading.interfaces.as_ref()).map(network),
            process: threads.map(|(timestamp, count)| v1::ProcessUsage {
                timestamp,
                process_count: Some(value(count)),
            }),
            containers,
            io: of_cgroup.and_then(io),
        }),
        windows: None,
    }
}
