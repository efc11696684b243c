//! From what was read to the values of metrics.

use serde::Deserialize;

use crate::{
    pod::Measured,
    spec::config::Resources,
    stats::{
        Details, DeviceNames, Disk, Interface, Memory, Pressure, Processes, Reading, Times, Waited,
    },
};

const NANOSECONDS: u64 = 1_000_000_000;
const MICROSECONDS: u64 = 1_000_000;

/// What a family of metrics is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Source {
    LastSeen,
    StartTime,
    CpuUsage,
    CpuUser,
    CpuSystem,
    CpuPeriods,
    CpuThrottledPeriods,
    CpuThrottled,
    MemoryUsage,
    MemoryWorkingSet,
    MemoryRss,
    MemoryCache,
    MemoryMappedFile,
    MemoryActiveFile,
    MemoryInactiveFile,
    MemoryKernel,
    MemorySwap,
    MemoryLimitHits,
    MemoryMaxUsage,
    MemoryFailures,
    OomKills,
    RxBytes,
    RxPackets,
    RxDropped,
    RxErrors,
    TxBytes,
    TxPackets,
    TxDropped,
    TxErrors,
    FsUsage,
    FsLimit,
    FsInodes,
    FsInodesFree,
    ReadBytes,
    Reads,
    WrittenBytes,
    Writes,
    DeviceBytes,
    Hugepages,
    HugepagesMax,
    Processes,
    Threads,
    ThreadsMax,
    Descriptors,
    Sockets,
    Ulimits,
    SpecCpuPeriod,
    SpecCpuQuota,
    SpecCpuShares,
    SpecMemoryLimit,
    SpecMemoryReservation,
    SpecMemorySwapLimit,
    CpuWaiting,
    CpuStalled,
    MemoryWaiting,
    MemoryStalled,
    IoWaiting,
    IoStalled,
}

/// What is known of a pod or a container.
#[derive(Clone, Copy)]
pub(in crate::cri) struct Facts<'a> {
    /// Nanoseconds since the epoch.
    pub(in crate::cri) started_at: i64,
    /// Its cgroup.
    pub(in crate::cri) reading: &'a Reading,
    /// The rest of it.
    pub(in crate::cri) details: Option<&'a Details>,
    /// The pod's interfaces, and when they were read.
    pub(in crate::cri) interfaces: Option<&'a (i64, Vec<Interface>)>,
    /// What a container has and a pod has not.
    pub(in crate::cri) container: Option<OfContainer<'a>>,
    /// Names of devices.
    pub(in crate::cri) names: &'a DeviceNames,
}

/// What is known of a container alone.
#[derive(Clone, Copy)]
pub(in crate::cri) struct OfContainer<'a> {
    /// What its processes have open.
    pub(in crate::cri) processes: Option<&'a Processes>,
    /// What it has written to its own layer.
    pub(in crate::cri) layer: Option<Measured>,
    /// What that lies on, and when that was looked at.
    pub(in crate::cri) disk: Option<&'a (i64, Disk)>,
    /// Its limits.
    pub(in crate::cri) resources: Option<&'a Resources>,
}

/// Takes the labels that are beside those of everybody, a value and its time.
type Push<'a> = &'a mut dyn FnMut(&[(&str, &str)], u64, i64);

/// The values of a family.
pub(super) fn each(source: Source, facts: &Facts<'_>, push: Push<'_>) {
    match source {
        Source::RxBytes
        | Source::RxPackets
        | Source::RxDropped
        | Source::RxErrors
        | Source::TxBytes
        | Source::TxPackets
        | Source::TxDropped
        | Source::TxErrors => network(source, facts, push),
        Source::FsUsage | Source::FsLimit | Source::FsInodes | Source::FsInodesFree => {
            disk(source, facts, push);
        }
        Source::ReadBytes
        | Source::Reads
        | Source::WrittenBytes
        | Source::Writes
        | Source::DeviceBytes => devices(source, facts, push),
        Source::Hugepages | Source::HugepagesMax => hugepages(source, facts, push),
        Source::MemoryFailures => faults(facts, push),
        Source::CpuUsage => {
            if let Some(cpu) = facts.reading.cpu {
                push(&[("cpu", "total")], cpu.usage / NANOSECONDS, facts.reading.at);
            }
        }
        Source::Ulimits => {
            if let Some(counted) = facts.container.and_then(|container| container.processes)
                && let Some(limit) = counted.descriptors_max
            {
                push(&[("ulimit", "max_open_files")], limit, counted.at);
            }
        }
        _ => {
            if let Some((value, at)) = figure(source, facts) {
                push(&[], value, at);
            }
        }
    }
}

/// The one value of a family that has one.
fn figure(source: Source, facts: &Facts<'_>) -> Option<(u64, i64)> {
    let reading = facts.reading;
    let of_the_rest = || {
        let value = memory(source, &reading.memory, reading, facts.details)
            .or_else(|| waited(source, reading))?;
        Some((value, reading.rest_at))
    };
    let of_now = cpu(source, facts).or_else(|| spec(source, facts)).or_else(|| match source {
        Source::LastSeen => u64::try_from(reading.at).ok().map(|at| at / NANOSECONDS),
        Source::StartTime => u64::try_from(facts.started_at).ok().map(|start| start / NANOSECONDS),
        _ => None,
    });
    of_now
        .map(|value| (value, reading.at))
        .or_else(of_the_rest)
        .or_else(|| facts.details.and_then(|details| Some((detail(source, details)?, details.at))))
        .or_else(|| {
            let counted = facts.container?.processes?;
            Some((opened(source, counted)?, counted.at))
        })
}

fn cpu(source: Source, facts: &Facts<'_>) -> Option<u64> {
    // One of the two readings has them.
    let of_details = facts.details.map(|details| details.times).unwrap_or_default();
    let of_reading = facts.reading.cpu.map(|cpu| cpu.times).unwrap_or_default();
    let time = |of: fn(Times) -> Option<u64>| of(of_reading).or_else(|| of(of_details));
    let is_limited = || match facts.container {
        Some(container) => container.resources.is_some_and(|limits| limits.cpu_quota > 0),
        None => time(|times| times.periods).is_some_and(|periods| periods > 0),
    };
    match source {
        Source::CpuUser => time(|times| times.user).map(|time| time / NANOSECONDS),
        Source::CpuSystem => time(|times| times.system).map(|time| time / NANOSECONDS),
        // Nobody is throttled without a limit.
        Source::CpuPeriods => time(|times| times.periods).filter(|_| is_limited()),
        Source::CpuThrottledPeriods => {
            time(|times| times.throttled_periods).filter(|_| is_limited())
        }
        Source::CpuThrottled => {
            time(|times| times.throttled).map(|time| time / NANOSECONDS).filter(|_| is_limited())
        }
        _ => None,
    }
}

fn memory(
    source: Source,
    memory: &Memory,
    reading: &Reading,
    details: Option<&Details>,
) -> Option<u64> {
    match source {
        Source::MemoryUsage => memory.usage,
        Source::MemoryWorkingSet => memory.working_set,
        Source::MemoryRss => memory.rss,
        Source::MemoryCache => memory.parts.cache,
        Source::MemoryMappedFile => memory.parts.mapped_file,
        Source::MemoryActiveFile => memory.parts.active_file,
        Source::MemoryInactiveFile => memory.parts.inactive_file,
        Source::MemoryKernel => memory.parts.kernel.or_else(|| details?.kernel),
        Source::MemorySwap => reading.swap.map(|swap| swap.usage),
        _ => None,
    }
}

fn detail(source: Source, details: &Details) -> Option<u64> {
    match source {
        Source::MemoryLimitHits => details.limit_hits,
        Source::MemoryMaxUsage => details.max_usage,
        Source::OomKills => details.oom_kills,
        Source::Threads => details.threads,
        Source::ThreadsMax => details.threads_max,
        _ => None,
    }
}

fn opened(source: Source, counted: &Processes) -> Option<u64> {
    match source {
        Source::Processes => Some(counted.processes),
        Source::Descriptors => Some(counted.descriptors),
        Source::Sockets => Some(counted.sockets),
        _ => None,
    }
}

fn waited(source: Source, reading: &Reading) -> Option<u64> {
    let cpu = || reading.cpu?.pressure;
    let of = |pressure: Option<Pressure>, of: fn(Pressure) -> Waited| {
        pressure.map(|pressure| of(pressure).total / MICROSECONDS)
    };
    match source {
        Source::CpuWaiting => of(cpu(), |pressure| pressure.some),
        Source::CpuStalled => of(cpu(), |pressure| pressure.full),
        Source::MemoryWaiting => of(reading.memory.pressure, |pressure| pressure.some),
        Source::MemoryStalled => of(reading.memory.pressure, |pressure| pressure.full),
        Source::IoWaiting => of(reading.io, |pressure| pressure.some),
        Source::IoStalled => of(reading.io, |pressure| pressure.full),
        _ => None,
    }
}

/// Limits: those of memory as the kernel has them, those of the processor as they were asked
/// for, which the kernel has in other units.
fn spec(source: Source, facts: &Facts<'_>) -> Option<u64> {
    const PERIOD: u64 = 100_000;
    const SHARES: u64 = 1024;
    let limits = facts.container?.resources;
    let number = |of: fn(&Resources) -> i64| {
        limits.and_then(|limits| u64::try_from(of(limits)).ok()).filter(|number| *number > 0)
    };
    match source {
        Source::SpecCpuPeriod => Some(number(|limits| limits.cpu_period).unwrap_or(PERIOD)),
        Source::SpecCpuQuota => number(|limits| limits.cpu_quota),
        Source::SpecCpuShares => Some(number(|limits| limits.cpu_shares).unwrap_or(SHARES)),
        Source::SpecMemoryLimit => {
            facts.reading.memory.usage?;
            Some(facts.reading.memory.limit.unwrap_or(0))
        }
        Source::SpecMemoryReservation => {
            let kept = limits.and_then(|limits| limits.unified.get("memory.min"));
            Some(kept.and_then(|kept| kept.trim().parse().ok()).unwrap_or(0))
        }
        Source::SpecMemorySwapLimit => Some(facts.reading.swap?.limit.unwrap_or(0)),
        _ => None,
    }
}

fn network(source: Source, facts: &Facts<'_>, push: Push<'_>) {
    for interface in facts.interfaces.iter().flat_map(|(_, all)| all) {
        let value = match source {
            Source::RxBytes => interface.rx_bytes,
            Source::RxPackets => interface.rx_packets,
            Source::RxDropped => interface.rx_dropped,
            Source::RxErrors => interface.rx_errors,
            Source::TxBytes => interface.tx_bytes,
            Source::TxPackets => interface.tx_packets,
            Source::TxDropped => interface.tx_dropped,
            _ => interface.tx_errors,
        };
        let at = facts.interfaces.map_or(0, |(at, _)| *at);
        push(&[("interface", &interface.name)], value, at);
    }
}

fn disk(source: Source, facts: &Facts<'_>, push: Push<'_>) {
    let Some(container) = facts.container else { return };
    let Some((looked_at, disk)) = container.disk else { return };
    let since_epoch = |layer: Measured| {
        layer.at.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64)
    };
    let figure = match source {
        Source::FsUsage => container.layer.map(|layer| (layer.usage.bytes, since_epoch(layer))),
        Source::FsLimit => Some((disk.capacity, *looked_at)),
        Source::FsInodes => disk.inodes.map(|inodes| (inodes, *looked_at)),
        _ => disk.inodes_free.map(|inodes| (inodes, *looked_at)),
    };
    if let Some((value, at)) = figure {
        push(&[("device", &disk.device)], value, at);
    }
}

fn devices(source: Source, facts: &Facts<'_>, push: Push<'_>) {
    let Some(details) = facts.details else { return };
    for (&(major, minor), device) in details.devices.iter().flatten() {
        let name = facts.names.of(major, minor);
        let mut one = |value| push(&[("device", &name)], value, details.at);
        match source {
            Source::ReadBytes => one(device.read_bytes),
            Source::Reads => one(device.reads),
            Source::WrittenBytes => one(device.written_bytes),
            Source::Writes => one(device.writes),
            _ => {
                let numbers = (major.to_string(), minor.to_string());
                for (operation, value) in
                    [("Read", device.read_bytes), ("Write", device.written_bytes)]
                {
                    let labels = [
                        ("device", &*name),
                        ("major", &numbers.0),
                        ("minor", &numbers.1),
                        ("operation", operation),
                    ];
                    push(&labels, value, details.at);
                }
            }
        }
    }
}

fn hugepages(source: Source, facts: &Facts<'_>, push: Push<'_>) {
    let Some(details) = facts.details else { return };
    for pages in &details.hugepages {
        let value = match source {
            Source::Hugepages => pages.usage,
            _ => pages.max_usage,
        };
        if let Some(value) = value {
            push(&[("pagesize", &pages.size)], value, details.at);
        }
    }
}

fn faults(facts: &Facts<'_>, push: Push<'_>) {
    let memory = &facts.reading.memory;
    for (kind, scope, value) in [
        ("pgfault", "container", memory.parts.own_faults),
        ("pgfault", "hierarchy", memory.faults),
        ("pgmajfault", "container", memory.parts.own_major_faults),
        ("pgmajfault", "hierarchy", memory.major_faults),
    ] {
        if let Some(value) = value {
            push(&[("failure_type", kind), ("scope", scope)], value, facts.reading.rest_at);
        }
    }
}
