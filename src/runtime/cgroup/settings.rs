//! From the `linux.resources` of a spec to values in cgroup files.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::super::error::Error;

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The v1 hierarchy.
    pub controller: &'static str,
    /// The file's name.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Whether a kernel without the file is as good as one that has it.
    pub optional: bool,
}

pub(super) fn setting(
    controller: &'static str,
    file: impl Into<String>,
    value: impl ToString,
) -> Setting {
    Setting { controller, file: file.into(), value: value.to_string(), optional: false }
}

fn optional(setting: Setting) -> Setting {
    Setting { optional: true, ..setting }
}

/// Limits in the files of v2.
pub(super) fn for_v2(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    if let Some(cpu) = resources.cpu() {
        cpu_v2(cpu, &mut settings);
    }
    if let Some(memory) = resources.memory() {
        memory_v2(memory, &mut settings)?;
    }
    if let Some(pids) = resources.pids() {
        settings.push(setting("pids", "pids.max", max_or(pids.limit())));
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", huge.page_size());
        let limit = setting("hugetlb", file, huge.limit());
        // No huge pages at all is what a node without the controller gives anyway.
        settings.push(Setting { optional: huge.limit() == 0, ..limit });
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        check_unified(file)?;
        settings.push(setting("unified", file, value));
    }
    Ok(settings)
}

fn cpu_v2(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    if let Some(shares) = cpu.shares().filter(|&shares| shares != 0) {
        settings.push(setting("cpu", "cpu.weight", weight_of_shares(shares)));
    }
    if cpu.quota().is_some() || cpu.period().is_some() {
        let quota = cpu.quota().filter(|&quota| quota > 0);
        let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
        let period = cpu.period().unwrap_or(100_000);
        settings.push(setting("cpu", "cpu.max", format!("{quota} {period}")));
    }
    cpuset(cpu, settings);
}

fn cpuset(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            settings.push(setting("cpuset", file, value));
        }
    }
}

fn memory_v2(memory: &LinuxMemory, settings: &mut Vec<Setting>) -> Result<(), Error> {
    if let Some(limit) = memory.limit().filter(|&limit| limit != 0) {
        settings.push(setting("memory", "memory.max", max_or(limit)));
    }
    if let Some(reservation) = memory.reservation().filter(|&low| low != 0) {
        settings.push(setting("memory", "memory.low", max_or(reservation)));
    }
    if let Some(total) = memory.swap().filter(|&total| total != 0) {
        settings.push(optional(setting("memory", "memory.swap.max", swap_of(memory, total)?)));
    }
    Ok(())
}

/// A spec's swap limit counts memory and swap together; the file of v2 counts swap alone.
fn swap_of(memory: &LinuxMemory, total: i64) -> Result<String, Error> {
    if total < 0 {
        return Ok("max".to_owned());
    }
    let limit = memory.limit().unwrap_or(0);
    if limit <= 0 || total < limit {
        let reason = format!(
            "{total} must be at least the memory limit, which is {limit}; it counts both together"
        );
        return Err(Error::spec("linux.resources.memory.swap", reason));
    }
    Ok((total - limit).to_string())
}

/// Limits in the files of v1.
pub(super) fn for_v1(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|&shares| shares != 0) {
            settings.push(setting("cpu", "cpu.shares", shares));
        }
        if let Some(period) = cpu.period().filter(|&period| period != 0) {
            settings.push(setting("cpu", "cpu.cfs_period_us", period));
        }
        if let Some(quota) = cpu.quota().filter(|&quota| quota != 0) {
            settings.push(setting("cpu", "cpu.cfs_quota_us", quota));
        }
        cpuset(cpu, &mut settings);
    }
    if let Some(memory) = resources.memory() {
        memory_v1(memory, &mut settings);
    }
    if let Some(pids) = resources.pids() {
        settings.push(setting("pids", "pids.max", max_or(pids.limit())));
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", huge.page_size());
        let limit = setting("hugetlb", file, huge.limit());
        settings.push(Setting { optional: huge.limit() == 0, ..limit });
    }
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        let reason = "this node runs cgroup v1, which has no unified settings";
        return Err(Error::spec("linux.resources.unified", reason));
    }
    Ok(settings)
}

fn memory_v1(memory: &LinuxMemory, settings: &mut Vec<Setting>) {
    if let Some(limit) = memory.limit().filter(|&limit| limit != 0) {
        settings.push(setting("memory", "memory.limit_in_bytes", limit));
    }
    if let Some(reservation) = memory.reservation().filter(|&soft| soft != 0) {
        settings.push(setting("memory", "memory.soft_limit_in_bytes", reservation));
    }
    if let Some(swap) = memory.swap().filter(|&swap| swap != 0) {
        settings.push(optional(setting("memory", "memory.memsw.limit_in_bytes", swap)));
    }
}

fn max_or(limit: i64) -> String {
    if limit <= 0 { "max".to_owned() } else { limit.to_string() }
}

/// A file that `unified` may name: of this cgroup, of a controller, not of the core (which
/// moves, freezes and kills processes).
fn check_unified(file: &str) -> Result<(), Error> {
    let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b));
    let of_controller = file.split_once('.').is_some_and(|(name, _)| name != "cgroup");
    if plain && of_controller && !file.contains("..") {
        return Ok(());
    }
    let reason = format!("{file:?} is not the name of a controller's file, such as memory.high");
    Err(Error::spec("linux.resources.unified", reason))
}

/// `cpu.weight` (1 to 10000) for v1's `cpu.shares` (2 to 262144), such that the defaults 1024
/// and 100 meet. The curve is the one that runc and crun agreed on in 2025.
pub fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use oci_spec::runtime::{
        LinuxCpuBuilder, LinuxHugepageLimitBuilder, LinuxMemoryBuilder, LinuxPidsBuilder,
        LinuxResourcesBuilder,
    };

    use super::{for_v1, for_v2, weight_of_shares};

    fn pairs(settings: &[super::Setting]) -> Vec<(&str, &str)> {
        settings.iter().map(|s| (s.file.as_str(), s.value.as_str())).collect()
    }

    #[test]
    fn shares_meet_the_weights_of_the_other_runtimes() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert!((2..262_144).step_by(97).all(|s| weight_of_shares(s) <= weight_of_shares(s + 97)));
    }

    #[test]
    fn limits_go_to_their_files() {
        let resources = LinuxResourcesBuilder::default()
            .cpu(
                LinuxCpuBuilder::default()
                    .quota(50_000)
                    .period(100_000_u64)
                    .cpus("0-1")
                    .build()
                    .unwrap(),
            )
            .memory(LinuxMemoryBuilder::default().limit(1000).swap(1500).build().unwrap())
            .pids(LinuxPidsBuilder::default().limit(7).build().unwrap())
            .hugepage_limits(vec![
                LinuxHugepageLimitBuilder::default().page_size("2MB").limit(4).build().unwrap(),
            ])
            .build()
            .unwrap();
        assert_eq!(
            pairs(&for_v2(&resources).unwrap()),
            [
                ("cpu.max", "50000 100000"),
                ("cpuset.cpus", "0-1"),
                ("memory.max", "1000"),
                ("memory.swap.max", "500"),
                ("pids.max", "7"),
                ("hugetlb.2MB.max", "4"),
            ]
        );
        assert_eq!(
            pairs(&for_v1(&resources).unwrap()),
            [
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpuset.cpus", "0-1"),
                ("memory.limit_in_bytes", "1000"),
                ("memory.memsw.limit_in_bytes", "1500"),
                ("pids.max", "7"),
                ("hugetlb.2MB.limit_in_bytes", "4"),
            ]
        );
    }

    #[test]
    fn unified_cannot_leave_its_cgroup_or_touch_the_core() {
        for file in ["cgroup.procs", "../memory.max", "a/b.c", "memory"] {
            let unified = HashMap::from([(file.to_owned(), "1".to_owned())]);
            let resources = LinuxResourcesBuilder::default().unified(unified).build().unwrap();
            assert!(for_v2(&resources).is_err(), "{file}");
        }
    }
}
