//! What can be seen of a container from outside.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

/// Values by what they are of.
pub struct Facts(BTreeMap<String, String>);

/// Whatever has an identity of its own in each container.
const IDENTITIES: [&str; 2] = ["env HOSTNAME", "mount /"];

/// Files of a cgroup, by controller on version 1.
const FILES: [(&str, &str); 13] = [
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.memsw.limit_in_bytes"),
    ("memory", "memory.swappiness"),
    ("cpu", "cpu.shares"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_period_us"),
    ("cpuset", "cpuset.cpus"),
    ("cpuset", "cpuset.mems"),
    ("pids", "pids.max"),
    ("", "memory.max"),
    ("", "cpu.max"),
    ("", "cpu.weight"),
    ("", "pids.max"),
];

impl Facts {
    pub fn of(pid: i64) -> Self {
        let process = Path::new("/proc").join(pid.to_string());
        let mut facts = BTreeMap::new();
        let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
        for line in read("status").lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let wanted = name.starts_with("Cap")
                || ["Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "Seccomp"].contains(&name);
            if wanted {
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                facts.insert(name.to_owned(), value);
            }
        }
        for line in read("limits").lines().skip(1) {
            let (name, rest) = line.split_at(line.len().min(26));
            let value: Vec<_> = rest.split_whitespace().take(2).collect();
            facts.insert(format!("limit {}", name.trim()), value.join(" "));
        }
        facts.insert("oom_score_adj".to_owned(), read("oom_score_adj").trim().to_owned());
        for name in ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
            let is_own = of(&pid.to_string()) != of("self");
            let words = if is_own { "own" } else { "the host's" };
            facts.insert(format!("namespace {name}"), words.to_owned());
        }
        for variable in read("environ").split('\0').filter_map(|text| text.split_once('=')) {
            facts.insert(format!("env {}", variable.0), variable.1.to_owned());
        }
        facts.extend(read("mountinfo").lines().filter_map(mount));
        let root = process.join("root/dev");
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
            let name = format!("device {}", entry.file_name().to_string_lossy());
            let number = metadata.rdev();
            let (mode, owner) = (metadata.mode(), (metadata.uid(), metadata.gid()));
            let link = fs::read_link(entry.path()).map(|link| link.display().to_string());
            let value = link.unwrap_or_else(|_| format!("{mode:o} {number:#x} {owner:?}"));
            facts.insert(name, value);
        }
        let cgroups = read("cgroup");
        for line in cgroups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(names), Some(path)) = (parts.next(), parts.next()) else { continue };
            for (controller, file) in FILES {
                let file = format!("/sys/fs/cgroup/{controller}{path}/{file}");
                let is_here = names.split(',').any(|name| name == controller);
                if let Some(value) = fs::read_to_string(&file).ok().filter(|_| is_here) {
                    let name = file.rsplit('/').next().unwrap_or_default();
                    facts.insert(format!("cgroup {name}"), value.trim().to_owned());
                }
            }
            if names == "devices" {
                let list = format!("/sys/fs/cgroup/devices{path}/devices.list");
                for rule in fs::read_to_string(list).unwrap_or_default().lines() {
                    facts.insert(format!("device rule {rule}"), "allowed".to_owned());
                }
            }
        }
        let directory = fs::read_link(process.join("cwd")).unwrap_or_default();
        facts.insert("working directory".to_owned(), directory.display().to_string());
        facts.insert("label".to_owned(), read("attr/current").trim().to_owned());
        Self(facts)
    }

    /// What is not the same, as it is here and there.
    pub fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let value = |facts: &Self, name: &String| {
            facts.0.get(name).cloned().unwrap_or_else(|| "—".to_owned())
        };
        let differ = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name));
        let differ = differ.filter(|name| !IDENTITIES.contains(&name.as_str()));
        differ.map(|name| (name.clone(), value(self, name), value(other, name))).collect()
    }
}

/// A line of proc_pid_mountinfo(5): where, and with what.
fn mount(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<_> = left.split(' ').collect();
    let right: Vec<_> = right.split(' ').collect();
    let (place, options) = (left.get(4)?, left.get(5)?);
    let (kind, more) = (right.first()?, right.get(2)?);
    // What is of this container alone, or says the same.
    let size = |option: &&str| option.starts_with("size=") || option.starts_with("mode=");
    let more: Vec<_> = more.split(',').filter(|option| *kind == "tmpfs" && size(option)).collect();
    let propagation = left
        .get(6)
        .filter(|word| **word != "-")
        .map_or("private", |word| word.split(':').next().unwrap_or("private"));
    let mut options: Vec<_> = options.split(',').filter(|option| *option != "relatime").collect();
    options.sort_unstable();
    let value = format!("{kind} {} {} {propagation}", options.join(","), more.join(","));
    Some((format!("mount {place}"), value.split_whitespace().collect::<Vec<_>>().join(" ")))
}
