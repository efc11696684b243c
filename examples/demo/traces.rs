//! What the daemon and its pods leave on a machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use crate::{Place, daemon::own_cgroup};

/// By kind, everything on this machine that comes from the demonstration.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces(BTreeMap<&'static str, BTreeSet<String>>);

impl Traces {
    /// Looks. The daemon itself is not counted.
    pub fn take(place: &Place<'_>, daemon: Option<u32>) -> anyhow::Result<Self> {
        let Place { args, config } = place;
        let work = args.work.to_str().context("the path is not UTF-8")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mounts = mounts.lines().filter(|line| line.contains(work)).map(str::to_owned);
        Ok(Self(BTreeMap::from([
            ("mounts", mounts.collect()),
            ("network namespaces", names(&config.netns_dir)),
            ("network devices", devices(&config.network.bridge)),
            ("addresses", addresses(place)?),
            ("cgroups", below(&cgroups(Path::new(&args.name)))),
            ("processes", processes(place, daemon)),
            ("pod directories", names(&config.state.join("pods"))),
            ("container directories", names(&config.root.join("containers"))),
        ])))
    }

    /// Looks until there is nothing beyond `before`, for at most five seconds: the kernel
    /// removes the device of a network namespace a moment after its last process.
    pub async fn settled(place: &Place<'_>, before: &Self) -> anyhow::Result<Self> {
        for _ in 0..50 {
            let traces = Self::take(place, None)?;
            if traces == *before {
                return Ok(traces);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self::take(place, None)
    }

    /// What is here and was not there before.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, now) in &self.0 {
            let then = before.0.get(kind);
            let new = now.iter().filter(|one| then.is_none_or(|then| !then.contains(*one)));
            lines.extend(new.map(|one| format!("  {kind}: {one}")));
        }
        lines
    }
}

/// Three columns of counts.
pub fn print(before: &Traces, during: Option<&Traces>, after: &Traces) {
    println!("\n{:<24}{:>8}{:>8}{:>8}", "on this machine", "before", "pod", "after");
    for (kind, now) in &after.0 {
        let count = |traces: &Traces| traces.0.get(kind).map_or(0, BTreeSet::len).to_string();
        let during = during.map_or("-".to_owned(), count);
        println!("{kind:<24}{:>8}{during:>8}{:>8}", count(before), now.len());
    }
}

/// The directories of a cgroup in all hierarchies that have it.
pub fn cgroups(name: &Path) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    [root.to_owned()]
        .into_iter()
        .chain(hierarchies)
        .map(|hierarchy| hierarchy.join(name))
        .filter(|directory| directory.join("cgroup.procs").exists())
        .collect()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// All cgroups below these.
fn below(tops: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = tops.to_vec();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(entry.path().display().to_string());
                left.push(entry.path());
            }
        }
    }
    found
}

/// The bridge and what is attached to it.
fn devices(bridge: &str) -> BTreeSet<String> {
    let mut devices = names(&Path::new("/sys/class/net").join(bridge).join("brif"));
    if Path::new("/sys/class/net").join(bridge).exists() {
        devices.insert(bridge.to_owned());
    }
    devices
}

/// Addresses of this machine in the subnet.
fn addresses(place: &Place<'_>) -> anyhow::Result<BTreeSet<String>> {
    let subnet = place.config.network.subnet_v4;
    let text = fs::read_to_string("/proc/net/fib_trie")?;
    // A line with the address, then one with what it is.
    let pairs = text.lines().zip(text.lines().skip(1));
    let local = pairs.filter(|(_, what)| what.trim() == "/32 host LOCAL");
    let ours = local
        .filter_map(|(line, _)| line.trim().strip_prefix("|-- ")?.parse::<Ipv4Addr>().ok())
        .filter(|address| subnet.is_some_and(|subnet| subnet.contains(address)));
    Ok(ours.map(|address| address.to_string()).collect())
}

fn processes(place: &Place<'_>, daemon: Option<u32>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let tops = [cgroups(Path::new(&place.args.name)), cgroups(&own_cgroup(place.args))].concat();
    let all = below(&tops).into_iter().map(PathBuf::from).chain(tops);
    for directory in all {
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        let pids = text.lines().filter_map(|line| line.parse::<u32>().ok());
        found.extend(pids.filter(|pid| Some(*pid) != daemon).map(described));
    }
    found
}

fn described(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{pid} {}", name.trim())
}
