//! Namespaces, and who shares which.

use std::fmt::Write;

use super::Known;
use crate::{admin::v1::Namespace, cli::text::wrapped};

/// The order in which they are told.
const KINDS: [&str; 8] = ["net", "ipc", "uts", "pid", "mnt", "user", "cgroup", "time"];

/// Where the names of those who are in a namespace begin.
const INDENT: usize = 23;

/// A line for each namespace that somebody of the pod is in.
pub(super) fn text(text: &mut String, known: &Known<'_>) {
    text.push_str("\nNamespaces\n");
    let mut is_empty = true;
    for kind in KINDS {
        for (inode, who) in of_kind(known, kind) {
            let mut beginning = String::new();
            // Writing into text does not fail.
            let _ = write!(beginning, "  {kind:8}{inode:<width$}", width = INDENT - 10);
            wrapped(text, &beginning, INDENT, &who.join(", "));
            is_empty = false;
        }
    }
    if is_empty {
        text.push_str("  none: nothing of it runs\n");
    }
}

/// Each namespace of a kind, and who is in it. Of a container that is asked for, only those it
/// is in.
fn of_kind(known: &Known<'_>, kind: &str) -> Vec<(u64, Vec<String>)> {
    let kernel = &known.kernel;
    let find = |all: &[Namespace]| all.iter().find(|one| one.kind == kind).map(|one| one.inode);
    let mut found: Vec<(u64, Vec<String>)> = Vec::new();
    let mut add = |inode: u64, who: String| match found.iter_mut().find(|(one, _)| *one == inode) {
        Some((_, all)) => all.push(who),
        None => found.push((inode, vec![who])),
    };
    if let Some(inode) = find(&kernel.pod) {
        add(inode, "the pod".to_owned());
    }
    for process in &kernel.processes {
        let containers = known.pod.containers.iter();
        let name = containers.clone().find(|one| one.id == process.container_id);
        let name = name.map_or(process.container_id.as_str(), |one| one.name.as_str());
        if let Some(inode) = find(&process.namespaces) {
            add(inode, name.to_owned());
        }
    }
    let host = find(&kernel.host);
    for (inode, who) in &mut found {
        if Some(*inode) == host {
            who.insert(0, "the host".to_owned());
        }
    }
    if let Some(container) = known.container {
        let own = kernel.processes.iter().find(|process| process.container_id == container.id);
        let own = own.and_then(|process| find(&process.namespaces));
        found.retain(|(inode, _)| Some(*inode) == own);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::v1::{InspectPodResponse, Process},
        cli::node::snapshot::{Container, Pod},
        cri::v1::ContainerStatus,
    };

    #[test]
    fn who_shares_which() {
        let container = |id: &str| Container {
            id: id.to_owned(),
            name: format!("name-{id}"),
            ..Container::default()
        };
        let pod = Pod { containers: vec![container("a"), container("b")], ..Pod::default() };
        let namespaces = |pid| {
            let one = |kind: &str, inode| Namespace { kind: kind.to_owned(), inode };
            vec![one("net", 7), one("pid", pid), one("user", 1)]
        };
        let process = |id: &str, pid| Process {
            container_id: id.to_owned(),
            namespaces: namespaces(pid),
            ..Process::default()
        };
        let mut known = Known {
            pod: &pod,
            container: None,
            pod_info: Default::default(),
            info: Default::default(),
            status: ContainerStatus::default(),
            kernel: InspectPodResponse {
                host: vec![Namespace { kind: "user".to_owned(), inode: 1 }],
                pod: vec![Namespace { kind: "net".to_owned(), inode: 7 }],
                processes: vec![process("a", 8), process("b", 9)],
            },
            network: None,
        };
        let mut whole = String::new();
        text(&mut whole, &known);
        let expected = "
Namespaces
  net     7            the pod, name-a, name-b
  pid     8            name-a
  pid     9            name-b
  user    1            the host, name-a, name-b
";
        assert_eq!(whole, expected);
        known.container = Some(&pod.containers[1]);
        let mut one = String::new();
        text(&mut one, &known);
        assert!(one.contains("pid     9") && !one.contains("pid     8"), "{one}");
    }
}
