//! What is known of an earlier daemon's pods, before anything is asked of anybody.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::warn;

use crate::pod::{
    CONTAINERS, Pods, SANDBOXES,
    container::{Container, ContainerRecord},
    error::{During, Error},
    id::{ContainerId, SandboxId},
    sandbox::{Sandbox, SandboxPhase, SandboxRecord},
};

/// What an earlier daemon has left to be done.
pub(in crate::pod) struct Left {
    /// Sandboxes that were being made.
    pub unfinished: Vec<Arc<Sandbox>>,
    /// Containers whose sandbox is not known.
    pub homeless: Vec<Arc<Container>>,
    /// Pods that have a directory and no record.
    pub unknown: Vec<SandboxId>,
    /// Containers that have a record.
    pub known: HashSet<ContainerId>,
    /// Trees that wait for their removal.
    pub trash: Vec<PathBuf>,
}

/// What containers leave behind.
pub(in crate::pod) struct Remains {
    /// Directories of containers.
    pub directories: Vec<ContainerId>,
    /// Files that containers are started from.
    pub bundles: Vec<ContainerId>,
    /// Those who hold images.
    pub holders: Vec<String>,
}

impl Pods {
    /// Reads the database and the names of pods. Waits for the disk, and for nobody else.
    pub(in crate::pod) fn load(&self) -> Result<Left, Error> {
        let sandboxes = self.parts.database.list::<SandboxRecord>(SANDBOXES)?;
        let containers = self.parts.database.list::<ContainerRecord>(CONTAINERS)?;
        // As text they were there as well.
        self.freed.add(containers.len());
        let mut unfinished = Vec::new();
        let mut homeless = Vec::new();
        let mut objects = self.objects();
        let mut known_pods = BTreeSet::new();
        for (id, record) in sandboxes {
            let id = SandboxId::from(id);
            known_pods.insert(id.clone());
            let lease = self.selinux.keep(&record);
            let sandbox = Sandbox::new(id.clone(), record, self.events.of_sandboxes());
            if let Some(lease) = lease {
                let _ = sandbox.level.set(lease);
            }
            if sandbox.record().phase == SandboxPhase::Creating {
                unfinished.push(sandbox);
            } else {
                objects.add_sandbox(sandbox);
            }
        }
        let mut at_home = Vec::with_capacity(containers.len());
        for (id, record) in containers {
            let id = ContainerId::from(id);
            self.layers.know(&id, record.project);
            let has_home = objects.has_sandbox(&record.sandbox);
            let container = Container::new(id, record, self.events.of_containers());
            match has_home {
                true => at_home.push(container),
                false => homeless.push(container),
            }
        }
        let known = at_home.iter().chain(&homeless).map(|one| one.id.clone()).collect();
        objects.add_all(at_home);
        drop(objects);
        self.end_what_a_reboot_has_ended();
        let trash = self.options.root.join("trash");
        let trash = names(&trash)?.into_iter().map(|name| trash.join(name)).collect();
        let unknown = names(&self.options.state.join("pods"))?
            .into_iter()
            .map(SandboxId::from)
            .filter(|id| !known_pods.contains(id))
            .collect();
        Ok(Left { unfinished, homeless, unknown, known, trash })
    }

    /// Looks for what belongs to containers that have no record, by the names of files. No
    /// container may be made meanwhile. Waits for the disk.
    pub(super) fn look_for_remains(&self, known: &HashSet<ContainerId>) -> Result<Remains, Error> {
        let ids = |directory: &Path| -> Result<Vec<ContainerId>, Error> {
            // What lies beside a bundle has an extension to the same name.
            let plain = |name: String| name.split('.').next().unwrap_or_default().to_owned();
            let ids = names(directory)?.into_iter().map(plain).map(ContainerId::from);
            Ok(ids.filter(|id| !known.contains(id)).collect())
        };
        let mut directories = ids(&self.options.root.join("containers"))?;
        directories.extend(ids(&self.options.root.join("work"))?);
        directories.extend(ids(&self.options.root.join("volumes"))?);
        let mut holders = self.parts.images.holders()?;
        holders.retain(|holder| !known.contains(&ContainerId::from(holder.clone())));
        Ok(Remains { directories, bundles: ids(&self.options.state.join("bundles"))?, holders })
    }

    /// After a reboot nothing runs any more, which the first list is to tell.
    fn end_what_a_reboot_has_ended(&self) {
        for sandbox in self.sandboxes() {
            let runs_no_more = {
                let record = sandbox.record();
                record.boot_id != self.boot_id && record.phase == SandboxPhase::Ready
            };
            if !runs_no_more {
                continue;
            }
            for container in self.containers_of(&sandbox) {
                if container.is_running() {
                    self.record_unknown(&container, "the node was restarted");
                }
            }
            sandbox.ending.cancel();
            drop(sandbox.observe(&self.parts.database, |record| {
                record.phase = SandboxPhase::NotReady;
            }));
        }
        if self.sandboxes().iter().any(|sandbox| sandbox.ending.is_cancelled()) {
            warn!("the node was restarted; its pods have ended");
        }
    }
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(directory).during("read", directory)?;
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    Ok(entries.flatten().filter_map(name).collect())
}
