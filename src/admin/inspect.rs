//! What the kernel says of the processes of a pod.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tonic::Status;

use super::v1::{IdRange, InspectPodResponse, Namespace, Process};
use crate::pod::{ContainerPhase, Pods, Sandbox, SandboxPhase};

/// Namespaces by their names in `/proc/PID/ns`.
const KINDS: [&str; 8] = ["net", "ipc", "uts", "pid", "mnt", "user", "cgroup", "time"];

/// What of a pod is looked at.
struct Subject {
    monitor: Option<u32>,
    netns: Option<PathBuf>,
    /// Ids of containers, and their first processes.
    containers: Vec<(String, u32)>,
}

/// Namespaces, capabilities, filters and labels, as they are.
pub(super) async fn pod(pods: &Pods, sandbox: &Sandbox) -> Result<InspectPodResponse, Status> {
    let (monitor, netns) = {
        let record = sandbox.record();
        let is_ready = record.phase == SandboxPhase::Ready;
        (is_ready.then_some(record.monitor_pid), record.netns.clone().filter(|_| is_ready))
    };
    let containers = pods.containers_of(sandbox);
    let containers = containers.iter().filter_map(|container| match container.record().phase {
        ContainerPhase::Running { pid, .. } => {
            Some((container.id.to_string(), pid.cast_unsigned()))
        }
        _ => None,
    });
    let subject = Subject { monitor, netns, containers: containers.collect() };
    let look = tokio::task::spawn_blocking(move || look(&subject));
    look.await.map_err(|_| Status::internal("the look at the pod was ended by a panic"))
}

fn look(subject: &Subject) -> InspectPodResponse {
    let host = namespaces(Path::new("/proc/self"));
    let monitor = subject.monitor.map(|pid| namespaces(&directory(pid))).unwrap_or_default();
    // Of the monitor's own only these are there for containers.
    let shared = monitor.into_iter().filter(|one| matches!(one.kind.as_str(), "ipc" | "uts"));
    let mut pod: Vec<Namespace> = shared.filter(|one| !host.contains(one)).collect();
    if let Some(inode) = subject.netns.as_ref().and_then(|path| inode(path)) {
        pod.insert(0, Namespace { kind: "net".to_owned(), inode });
    }
    let processes = subject.containers.iter().filter_map(|(id, pid)| process(id, *pid));
    InspectPodResponse { host, pod, processes: processes.collect() }
}

fn directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn namespaces(process: &Path) -> Vec<Namespace> {
    let one = |kind: &str| {
        let inode = inode(&process.join("ns").join(kind))?;
        Some(Namespace { kind: kind.to_owned(), inode })
    };
    KINDS.into_iter().filter_map(one).collect()
}

/// The inode of a namespace is that of what its link, or the mount over a file, leads to.
fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// None of one that has ended meanwhile.
fn process(container: &str, pid: u32) -> Option<Process> {
    let directory = directory(pid);
    let status = fs::read_to_string(directory.join("status")).ok()?;
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let set = |name| field(name).and_then(|bits| u64::from_str_radix(bits, 16).ok()).unwrap_or(0);
    let number = |name| field(name).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let label = fs::read_to_string(directory.join("attr/current")).unwrap_or_default();
    Some(Process {
        container_id: container.to_owned(),
        pid,
        namespaces: namespaces(&directory),
        effective: set("CapEff"),
        permitted: set("CapPrm"),
        bounding: set("CapBnd"),
        ambient: set("CapAmb"),
        seccomp: number("Seccomp"),
        no_new_privileges: number("NoNewPrivs") == 1,
        label: label.trim_end_matches(['\0', '\n']).to_owned(),
        uids: ranges(&directory.join("uid_map")),
        gids: ranges(&directory.join("gid_map")),
    })
}

fn ranges(map: &Path) -> Vec<IdRange> {
    let text = fs::read_to_string(map).unwrap_or_default();
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        Some(IdRange {
            inside: numbers.next()??,
            outside: numbers.next()??,
            count: numbers.next()??,
        })
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::{Subject, look};

    #[test]
    fn a_process_is_seen_as_the_kernel_sees_it() {
        let own = ("me".to_owned(), std::process::id());
        let gone = ("gone".to_owned(), u32::MAX);
        let seen = look(&Subject { monitor: None, netns: None, containers: vec![own, gone] });
        let [process] = seen.processes.as_slice() else { panic!("{:?}", seen.processes) };
        assert_eq!(process.namespaces, seen.host, "it is in the namespaces of itself");
        assert!(seen.host.iter().all(|one| one.inode > 0) && seen.host.len() >= 7);
        assert_eq!(process.permitted & !process.bounding, 0, "{process:?}");
        assert!(!process.uids.is_empty() && process.uids[0].count > 0);
    }
}
