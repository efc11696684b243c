//! What only metrics tell of a cgroup: beside [`super::Reading`], which is asked for more
//! often.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{
    Budget, Times,
    source::Source,
    text::{keyed, number, unlimited},
};
use crate::runtime::cgroup::{Cgroup, Version};

/// What a cgroup did with one device, in bytes and in requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hugepages {
    /// The size as the kernel's files have it: `2MB`.
    pub size: String,
    /// What is in use.
    pub usage: Option<u64>,
    /// The most that ever was.
    pub max_usage: Option<u64>,
}

/// One reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// When, in nanoseconds since the epoch.
    pub at: i64,
    /// What processor time went to, where the other reading does not tell (version 1).
    pub times: Times,
    /// The most memory that ever was in use, in bytes.
    pub max_usage: Option<u64>,
    /// How often the limit of memory was met.
    pub limit_hits: Option<u64>,
    /// The kernel's own memory, in bytes, where the other reading does not tell (version 1).
    pub kernel: Option<u64>,
    /// How many processes were killed for want of memory.
    pub oom_kills: Option<u64>,
    /// By the numbers of the device.
    pub devices: Option<BTreeMap<(u32, u32), Device>>,
    /// By size.
    pub hugepages: Vec<Hugepages>,
    /// Processes and threads.
    pub threads: Option<u64>,
    /// Processes and threads that there may be; 0 stands for any number.
    pub threads_max: Option<u64>,
}

/// The files.
#[derive(Debug)]
pub(super) struct Sources {
    max_usage: Source,
    events: Source,
    /// With bytes, and on version 1 with requests.
    devices: (Source, Option<Source>),
    threads_max: Source,
    /// Size, usage, and on version 1 the most.
    hugepages: Vec<(String, Source, Option<Source>)>,
    v1: Option<V1>,
}

/// What version 2 has in files that are read anyway.
#[derive(Debug)]
struct V1 {
    throttling: Source,
    user: Source,
    system: Source,
    limit_hits: Source,
    kernel: Source,
}

impl Sources {
    pub(super) fn open(version: Version, cgroup: &Cgroup, budget: &Budget) -> Self {
        let file =
            |controller: &str, name: &str| Source::new(cgroup.file_of(controller, name), budget);
        let sizes = hugepage_sizes().into_iter();
        match version {
            Version::V2 => Self {
                max_usage: file("", "memory.peak"),
                events: file("", "memory.events"),
                devices: (file("", "io.stat"), None),
                threads_max: file("", "pids.max"),
                hugepages: sizes
                    .map(|size| {
                        let usage = file("", &format!("hugetlb.{size}.current"));
                        (size, usage, None)
                    })
                    .collect(),
                v1: None,
            },
            Version::V1 => Self {
                max_usage: file("memory", "memory.max_usage_in_bytes"),
                events: file("memory", "memory.oom_control"),
                devices: (
                    file("blkio", "blkio.throttle.io_service_bytes_recursive"),
                    Some(file("blkio", "blkio.throttle.io_serviced_recursive")),
                ),
                threads_max: file("pids", "pids.max"),
                hugepages: sizes
                    .map(|size| {
                        let file =
                            |name| file("hugetlb", &format!("hugetlb.{size}.{name}_in_bytes"));
                        let (usage, most) = (file("usage"), file("max_usage"));
                        (size, usage, Some(most))
                    })
                    .collect(),
                v1: Some(V1 {
                    throttling: file("cpu", "cpu.stat"),
                    user: file("cpuacct", "cpuacct.usage_user"),
                    system: file("cpuacct", "cpuacct.usage_sys"),
                    limit_hits: file("memory", "memory.failcnt"),
                    kernel: file("memory", "memory.kmem.usage_in_bytes"),
                }),
            },
        }
    }

    pub(super) fn read(&self, at: i64, pools: &BTreeSet<String>) -> Details {
        let one = |source: &Source| source.read(number);
        let events = self.events.read(|text| Some((keyed(text, "max"), keyed(text, "oom_kill"))));
        let (limit_hits, oom_kills) = events.unwrap_or_default();
        let v1 = self.v1.as_ref();
        let hugepages = self.hugepages.iter().filter(|(size, ..)| pools.contains(size));
        let hugepages = hugepages.map(|(size, usage, most)| Hugepages {
            size: size.clone(),
            usage: one(usage),
            max_usage: most.as_ref().and_then(one),
        });
        Details {
            at,
            times: v1.map(V1::times).unwrap_or_default(),
            max_usage: one(&self.max_usage),
            limit_hits: v1.map_or(limit_hits, |v1| one(&v1.limit_hits)),
            kernel: v1.and_then(|v1| one(&v1.kernel)),
            oom_kills,
            devices: self.devices(),
            hugepages: hugepages.filter(|pages| pages.usage.is_some()).collect(),
            threads: None,
            threads_max: self.threads_max.read(unlimited),
        }
    }

    pub(super) fn devices(&self) -> Option<BTreeMap<(u32, u32), Device>> {
        let (bytes, requests) = &self.devices;
        match requests {
            None => bytes.read(|text| Some(v2_devices(text))),
            Some(requests) => {
                let devices = bytes.read(|text| Some(v1_devices(text, true, BTreeMap::new())))?;
                requests.read(|text| Some(v1_devices(text, false, devices)))
            }
        }
    }
}

impl V1 {
    fn times(&self) -> Times {
        let throttling = self.throttling.read(|text| {
            let keys = ["nr_periods", "nr_throttled", "throttled_time"];
            Some(keys.map(|key| keyed(text, key)))
        });
        let [periods, throttled_periods, throttled] = throttling.unwrap_or_default();
        let (user, system) = (self.user.read(number), self.system.read(number));
        Times { user, system, periods, throttled_periods, throttled }
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0` for each device.
pub(super) fn v2_devices(text: &str) -> BTreeMap<(u32, u32), Device> {
    let mut devices = BTreeMap::new();
    for (numbers, rest) in whole_lines(text).filter_map(|line| line.split_once(' ')) {
        let Some(numbers) = device(numbers) else { continue };
        let mut figures = Device::default();
        for (key, value) in rest.split_whitespace().filter_map(|field| field.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => figures.read_bytes = value,
                "wbytes" => figures.written_bytes = value,
                "rios" => figures.reads = value,
                "wios" => figures.writes = value,
                _ => {}
            }
        }
        devices.insert(numbers, figures);
    }
    devices
}

/// `8:0 Read 1` for each device and kind of request, and a sum at the end: in bytes in one
/// file, in requests in another, of which one is added to the other.
pub(super) fn v1_devices(
    text: &str,
    in_bytes: bool,
    mut devices: BTreeMap<(u32, u32), Device>,
) -> BTreeMap<(u32, u32), Device> {
    for line in whole_lines(text) {
        let mut fields = line.split(' ');
        let (Some(numbers), Some(kind), Some(value)) =
            (fields.next().and_then(device), fields.next(), fields.next())
        else {
            continue;
        };
        let Ok(value) = value.parse() else { continue };
        let figures = devices.entry(numbers).or_default();
        match (kind, in_bytes) {
            ("Read", true) => figures.read_bytes = value,
            ("Write", true) => figures.written_bytes = value,
            ("Read", false) => figures.reads = value,
            ("Write", false) => figures.writes = value,
            _ => {}
        }
    }
    devices
}

/// A file with more devices than are read has half a line at its end.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

/// The sizes that this kernel has, in KiB.
fn hugepage_kibibytes() -> Vec<u64> {
    let entries = fs::read_dir(HUGEPAGES).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut sizes: Vec<u64> = names
        .filter_map(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect();
    sizes.sort_unstable();
    sizes
}

/// The sizes that this kernel has, as files of cgroups name them: `2MB`, `1GB`.
fn hugepage_sizes() -> Vec<String> {
    hugepage_kibibytes().into_iter().map(hugepage_name).collect()
}

/// The sizes of which this node has pages now. Where it has none nobody can use any.
pub fn hugepage_pools() -> BTreeSet<String> {
    let has_pages = |size: &u64| {
        let pool = fs::read_to_string(format!("{HUGEPAGES}/hugepages-{size}kB/nr_hugepages"));
        pool.ok().and_then(|text| number(&text)).is_some_and(|pages| pages > 0)
    };
    hugepage_kibibytes().into_iter().filter(has_pages).map(hugepage_name).collect()
}

pub(super) fn hugepage_name(kibibytes: u64) -> String {
    const UNITS: [(u64, &str); 2] = [(1 << 20, "GB"), (1 << 10, "MB")];
    let unit = UNITS.iter().find(|(size, _)| kibibytes >= *size);
    let (size, name) = unit.unwrap_or(&(1, "KB"));
    format!("{}{name}", kibibytes / size)
}
