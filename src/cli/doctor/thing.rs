//! What there is on the machine, and whom it would belong to.

use std::{collections::HashSet, path::PathBuf};

use serde::Serialize;

use crate::{
    admin::v1::{InventoryResponse, Stray, StrayKind},
    sys::process::Identity,
};

/// Something that a daemon makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thing {
    /// Its kind, in the kernel's word.
    pub what: &'static str,
    /// Its path, or its name.
    pub place: String,
    /// Whom it would belong to.
    pub owner: Owner,
    /// What another thing in the same place would have another one of: an inode, the number of
    /// a mount, the time of a start.
    pub mark: u64,
    /// How it goes.
    pub removal: Removal,
}

/// Whom a thing belongs to if there is somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The sandbox of this id.
    Sandbox(String),
    /// The container of this id.
    Container(String),
    /// The layer of this number.
    Layer(u64),
    /// The sandbox that has this monitor, or the daemon that is its parent; with the sandbox by
    /// whose name it listens, where it does.
    Monitor { process: Identity, parent: u32, listens_for: Option<String> },
    /// Nobody, as the daemon says, with its reason.
    Nobody(String),
}

/// What makes a thing go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removal {
    /// SIGKILL.
    Kill(Identity),
    /// The end of so many processes, and the removal of the cgroup with those below it.
    Cgroup { path: PathBuf, processes: usize },
    /// The end of the mount.
    Unmount(PathBuf),
    /// The end of the mount, if there is one, and the removal of the file.
    UnmountAndDelete(PathBuf),
    /// The removal of the file, or of the directory with all that is in it.
    Delete(PathBuf),
    /// The daemon does it.
    Daemon(StrayKind, String),
}

/// A thing that belongs to nobody, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Shown<'a> {
    pub what: &'a str,
    #[serde(rename = "where")]
    pub place: &'a str,
    pub why: String,
    pub removal: String,
}

impl Thing {
    /// Why nobody has it.
    fn why(&self) -> String {
        match &self.owner {
            Owner::Sandbox(id) => format!("no pod has the id {}", short(id)),
            Owner::Container(id) => format!("no container has the id {}", short(id)),
            Owner::Layer(_) => "no image and no pull has this layer".to_owned(),
            Owner::Monitor { listens_for: Some(id), .. } => {
                format!("it is the monitor of pod {}, which no record knows", short(id))
            }
            Owner::Monitor { listens_for: None, .. } => "it is the monitor of no pod".to_owned(),
            Owner::Nobody(reason) => reason.clone(),
        }
    }

    /// Whether it is the same thing, and not another in its place.
    pub(super) fn is_same(&self, other: &Thing) -> bool {
        (self.what, &self.place, self.mark) == (other.what, &other.place, other.mark)
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        let removal = self.removal.words();
        Shown { what: self.what, place: &self.place, why: self.why(), removal }
    }
}

impl Removal {
    fn words(&self) -> String {
        match self {
            Removal::Kill(_) => "SIGKILL".to_owned(),
            Removal::Cgroup { processes: 0, .. } => "rmdir".to_owned(),
            Removal::Cgroup { processes: 1, .. } => "SIGKILL to its process, rmdir".to_owned(),
            Removal::Cgroup { processes, .. } => {
                format!("SIGKILL to its {processes} processes, rmdir")
            }
            Removal::Unmount(_) => "umount".to_owned(),
            Removal::UnmountAndDelete(_) => "umount, rm".to_owned(),
            Removal::Delete(_) => "rm -r".to_owned(),
            Removal::Daemon(..) => "the daemon removes it".to_owned(),
        }
    }

    /// What of it goes first: those who use other things, then what lies in others.
    pub(super) fn turn(&self) -> u8 {
        match self {
            Removal::Kill(_) => 0,
            Removal::Cgroup { .. } => 1,
            Removal::Unmount(_) => 2,
            Removal::UnmountAndDelete(_) => 3,
            Removal::Delete(_) => 4,
            Removal::Daemon(..) => 5,
        }
    }
}

/// Whether a name is 64 hexadecimal digits, as only what is Criquet's has.
pub(super) fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Whom the daemon has accounts of.
pub(super) struct Accounts {
    daemon: u32,
    sandboxes: HashSet<String>,
    containers: HashSet<String>,
    under_way: HashSet<String>,
    layers: HashSet<u64>,
    monitors: HashSet<(u32, u64)>,
    /// A pod has a monitor and no record says which one: records of Criquet 0.1 do not.
    has_nameless_monitors: bool,
    strays: Vec<Stray>,
    /// Cgroups that those of containers lie in.
    pub cgroups: Vec<PathBuf>,
}

impl Accounts {
    pub(super) fn of(inventory: InventoryResponse) -> Self {
        let under_way: HashSet<String> = inventory.under_way.into_iter().collect();
        let sandboxes = &inventory.sandboxes;
        let is_settled = |id: &String| !under_way.contains(id);
        Self {
            daemon: inventory.daemon,
            containers: inventory.containers.into_iter().collect(),
            layers: inventory.layers.into_iter().collect(),
            monitors: sandboxes.iter().map(|one| (one.monitor, one.monitor_started)).collect(),
            has_nameless_monitors: sandboxes
                .iter()
                .any(|one| one.monitor == 0 && is_settled(&one.id)),
            cgroups: sandboxes.iter().map(|one| PathBuf::from(&one.cgroup)).collect(),
            sandboxes: inventory.sandboxes.into_iter().map(|one| one.id).collect(),
            strays: inventory.strays,
            under_way,
        }
    }

    /// The daemon's process; none where none runs.
    pub(super) fn daemon(&self) -> Option<u32> {
        Some(self.daemon).filter(|pid| *pid != 0)
    }

    /// Whether somebody has it.
    pub(super) fn has(&self, thing: &Thing) -> bool {
        match &thing.owner {
            Owner::Sandbox(id) => self.has_sandbox(id),
            Owner::Container(id) => self.containers.contains(id) || self.under_way.contains(id),
            Owner::Layer(number) => self.layers.contains(number),
            Owner::Monitor { process, parent, listens_for } => {
                self.monitors.contains(&(process.pid, process.started))
                    || self.daemon() == Some(*parent)
                    || match listens_for {
                        Some(id) => self.has_sandbox(id),
                        None => self.has_nameless_monitors,
                    }
            }
            Owner::Nobody(_) => false,
        }
    }

    fn has_sandbox(&self, id: &str) -> bool {
        self.sandboxes.contains(id) || self.under_way.contains(id)
    }

    /// What the daemon says belongs to nobody.
    pub(super) fn strays(&self) -> impl Iterator<Item = Thing> {
        self.strays.iter().map(|stray| Thing {
            what: match stray.kind() {
                StrayKind::Device => "device",
                StrayKind::HostPort => "rule",
                _ => "record",
            },
            place: stray.name.clone(),
            owner: Owner::Nobody(stray.reason.clone()),
            mark: 0,
            removal: Removal::Daemon(stray.kind(), stray.name.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Accounts, Identity, Owner, Removal, Thing};
    use crate::admin::v1::{InventoryResponse, InventorySandbox};

    fn thing(owner: Owner) -> Thing {
        let removal = Removal::Delete("/x".into());
        Thing { what: "directory", place: "/x".to_owned(), owner, mark: 1, removal }
    }

    fn monitor(pid: u32, parent: u32, listens_for: Option<&str>) -> Thing {
        let process = Identity { pid, started: 5 };
        thing(Owner::Monitor { process, parent, listens_for: listens_for.map(str::to_owned) })
    }

    fn inventory() -> InventoryResponse {
        InventoryResponse {
            daemon: 100,
            sandboxes: vec![InventorySandbox {
                id: "pod".to_owned(),
                monitor: 7,
                monitor_started: 5,
                ..InventorySandbox::default()
            }],
            containers: vec!["container".to_owned()],
            under_way: vec!["coming".to_owned()],
            layers: vec![3],
            strays: Vec::new(),
        }
    }

    #[test]
    fn what_has_an_owner_is_no_stranger() {
        let known = Accounts::of(inventory());
        for owner in [
            Owner::Sandbox("pod".to_owned()),
            Owner::Sandbox("coming".to_owned()),
            Owner::Container("container".to_owned()),
            Owner::Container("coming".to_owned()),
            Owner::Layer(3),
        ] {
            assert!(known.has(&thing(owner.clone())), "{owner:?}");
        }
        for owner in [
            Owner::Sandbox("container".to_owned()),
            Owner::Container("pod".to_owned()),
            Owner::Layer(4),
            Owner::Nobody("because".to_owned()),
        ] {
            assert!(!known.has(&thing(owner.clone())), "{owner:?}");
        }
    }

    #[test]
    fn a_monitor_is_that_of_a_pod_or_the_child_of_the_daemon() {
        let known = Accounts::of(inventory());
        assert!(known.has(&monitor(7, 1, None)));
        assert!(known.has(&monitor(8, 100, None)), "it waits for a pod");
        assert!(known.has(&monitor(8, 1, Some("pod"))));
        assert!(!known.has(&monitor(8, 1, None)));
        assert!(!known.has(&monitor(8, 1, Some("gone"))));
        let mut old = inventory();
        old.sandboxes[0].monitor = 0;
        assert!(Accounts::of(old).has(&monitor(8, 1, None)), "it may be the one of an old record");
    }
}
