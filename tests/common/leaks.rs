//! What a daemon has made on the machine, and whether something of it is left.

use std::{collections::BTreeMap, fs, path::Path};

use super::Node;

/// What can be left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Mount points of the host.
    pub mounts: Vec<String>,
    /// Files of network namespaces.
    pub namespaces: Vec<String>,
    /// Directories below the cgroup of the node, of any hierarchy.
    pub cgroups: Vec<String>,
    /// Processes in those.
    pub processes: Vec<i32>,
    /// Directories of pods and containers.
    pub directories: Vec<String>,
    /// Links in the node's network namespace, but for loopback and the bridge.
    pub links: Vec<String>,
}

/// What there is of a node's pods now.
pub fn traces(node: &Node) -> Traces {
    let base = node.directory.path().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let cgroups = cgroups_of(node);
    let names = |directory: &str| names_in(&node.path(directory));
    let mut directories = names("root/containers");
    directories.extend(names("root/work"));
    directories.extend(names("root/volumes"));
    directories.extend(names("root/trash"));
    directories.extend(names("state/pods"));
    directories.extend(names("state/bundles"));
    Traces {
        mounts: mounts.filter(|point| point.starts_with(&base)).map(str::to_owned).collect(),
        namespaces: names("netns"),
        processes: cgroups.iter().flat_map(|path| processes_in(Path::new(path))).collect(),
        cgroups: cgroups.into_iter().filter(|path| !path.ends_with(&node.cgroup)).collect(),
        directories,
        links: links(node),
    }
}

/// Waits until nothing is left, and tells what is.
pub async fn assert_nothing_left(node: &Node) {
    assert_nothing_left_but_mounts(node, &[]).await;
}

/// The same, for a test that has mounted something itself.
pub async fn assert_nothing_left_but_mounts(node: &Node, own: &[&str]) {
    let own: Vec<_> = own.iter().map(|name| node.path(name).display().to_string()).collect();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let mut left = traces(node);
        left.mounts.retain(|point| !own.contains(point));
        if left == Traces::default() {
            return;
        }
        assert!(std::time::Instant::now() < end, "left behind: {left:#?}\n{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn links(node: &Node) -> Vec<String> {
    let net = format!("/proc/{}/net/dev", node.holder.id());
    fs::read_to_string(net)
        .unwrap_or_default()
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split(':').next()?.trim().to_owned()))
        .filter(|name| name != "lo" && name != "criquet0")
        .collect()
}

fn cgroups_of(node: &Node) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let mut tops = vec![root.join(&node.cgroup)];
    tops.extend(names_in(root).iter().map(|name| root.join(name).join(&node.cgroup)));
    let mut all = Vec::new();
    while let Some(directory) = tops.pop() {
        if !directory.is_dir() {
            continue;
        }
        let below = fs::read_dir(&directory).into_iter().flatten().flatten();
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        tops.extend(below.filter(is_directory).map(|entry| entry.path()));
        all.push(directory.display().to_string());
    }
    all
}

fn processes_in(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Monitors whose socket lies in the node's directory of state.
pub fn monitors(holder: u32, node: &Node) -> Vec<i32> {
    let name = "criquet-monitor";
    // Sockets are listed by network namespace: the daemon opens them in the node's.
    let sockets = fs::read_to_string(format!("/proc/{holder}/net/unix")).unwrap_or_default();
    let base = node.path("state").display().to_string();
    let inodes: BTreeMap<String, ()> = sockets
        .lines()
        .filter(|line| line.contains(&base))
        .filter_map(|line| Some((format!("socket:[{}]", line.split_whitespace().nth(6)?), ())))
        .collect();
    let pids = names_in(Path::new("/proc")).into_iter().filter_map(|name| name.parse::<i32>().ok());
    pids.filter(|pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        comm.trim() == name
            && fds
                .filter_map(|fd| fs::read_link(fd.path()).ok())
                .any(|link| inodes.contains_key(&*link.to_string_lossy()))
    })
    .collect()
}

/// Ends what a test has left, so that the next one starts on a clean machine.
pub fn end_everything(node: &Node) {
    for pid in node.monitors() {
        kill(pid);
    }
    for _ in 0..100 {
        let left = traces(node).processes;
        if left.is_empty() {
            break;
        }
        left.into_iter().for_each(kill);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for mount in traces(node).mounts.iter().rev() {
        let _ = rustix::mount::unmount(mount.as_str(), rustix::mount::UnmountFlags::DETACH);
    }
    let mut cgroups = cgroups_of(node);
    cgroups.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for cgroup in cgroups {
        let _ = fs::remove_dir(cgroup);
    }
}

fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
