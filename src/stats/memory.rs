//! `memory.stat`, read in one pass.

use super::Parts;
use crate::runtime::cgroup::Version;

/// What is taken from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) rss: Option<u64>,
    pub(super) faults: Option<u64>,
    pub(super) major_faults: Option<u64>,
    pub(super) parts: Parts,
}

pub(super) fn parse(version: Version, text: &str) -> Stat {
    match version {
        Version::V2 => v2(text),
        Version::V1 => v1(text),
    }
}

/// Keys and values, line by line.
fn pairs(text: &str) -> impl Iterator<Item = (&str, Option<u64>)> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(key, value)| (key, value.trim().parse().ok()))
}

fn v2(text: &str) -> Stat {
    let mut stat = Stat::default();
    let (mut stack, mut slab) = (None, None);
    for (key, value) in pairs(text) {
        match key {
            "anon" => stat.rss = value,
            "file" => stat.parts.cache = value,
            "file_mapped" => stat.parts.mapped_file = value,
            "active_file" => stat.parts.active_file = value,
            "inactive_file" => stat.parts.inactive_file = value,
            "kernel" => stat.parts.kernel = value,
            "kernel_stack" => stack = value,
            "slab" => slab = value,
            "pgfault" => stat.faults = value,
            "pgmajfault" => stat.major_faults = value,
            _ => {}
        }
    }
    // Before Linux 5.18 there is no sum; these two are nearly all of it.
    let nearly = stack.zip(slab).map(|(stack, slab): (u64, u64)| stack + slab);
    stat.parts.kernel = stat.parts.kernel.or(nearly);
    stat.parts.own_faults = stat.faults;
    stat.parts.own_major_faults = stat.major_faults;
    stat
}

/// Version 1 has figures of the cgroup alone under the bare names.
fn v1(text: &str) -> Stat {
    let mut stat = Stat::default();
    for (key, value) in pairs(text) {
        match key {
            "total_rss" => stat.rss = value,
            "total_cache" => stat.parts.cache = value,
            "total_mapped_file" => stat.parts.mapped_file = value,
            "total_active_file" => stat.parts.active_file = value,
            "total_inactive_file" => stat.parts.inactive_file = value,
            "total_pgfault" => stat.faults = value,
            "total_pgmajfault" => stat.major_faults = value,
            "pgfault" => stat.parts.own_faults = value,
            "pgmajfault" => stat.parts.own_major_faults = value,
            _ => {}
        }
    }
    stat
}
