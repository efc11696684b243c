//! What the records account for on the machine, for whoever compares the two.
//!
//! A sandbox is recorded before anything of it is made; a container afterwards, and an operation
//! names it meanwhile. So what was there before this is read, and is there afterwards, and is
//! not in it, belongs to nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    CONTAINERS, ContainerRecord, Pods, SANDBOXES, SandboxRecord,
    error::Error,
    id::{ContainerId, SandboxId},
};
use crate::{
    store::{BROKEN, Batch, Database},
    sys::process::Identity,
};

/// A sandbox that has a record.
#[derive(Debug, Clone)]
pub struct KnownSandbox {
    /// `namespace/name`.
    pub name: String,
    /// Its monitor; none until there is one.
    pub monitor: Option<Identity>,
    /// The cgroup that those of its containers lie in.
    pub cgroup: PathBuf,
    /// The slice of systemd that it lies in.
    pub slice: Option<String>,
}

/// All that has a record, and what is under way.
#[derive(Debug, Default)]
pub struct Known {
    /// Sandboxes, those among them that come or go.
    pub sandboxes: BTreeMap<String, KnownSandbox>,
    /// Containers by id, with their sandboxes.
    pub containers: BTreeMap<String, String>,
    /// Ids of what a call is about that is under way.
    pub under_way: BTreeSet<String>,
    /// Records that were put aside since they do not parse, as `collection/key`.
    pub broken: Vec<String>,
}

impl Known {
    /// Reads the records, for which the disk is not waited on this thread.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(database: &Database) -> Result<Self, Error> {
        // A container's record comes after its sandbox's and goes before it.
        let containers = database.find_all::<ContainerRecord>(CONTAINERS).await?;
        let sandboxes = database.find_all::<SandboxRecord>(SANDBOXES).await?;
        let broken = database.find_all::<String>(BROKEN).await?;
        let sandbox = |(id, record): (String, SandboxRecord)| {
            let metadata = &record.config.metadata;
            let known = KnownSandbox {
                name: format!("{}/{}", metadata.namespace, metadata.name),
                monitor: record.monitor,
                slice: record.slice.clone(),
                cgroup: record.cgroup,
            };
            (id, known)
        };
        let container = |(id, record): (String, ContainerRecord)| (id, record.sandbox.to_string());
        Ok(Self {
            sandboxes: sandboxes.into_iter().map(sandbox).collect(),
            containers: containers.into_iter().map(container).collect(),
            under_way: BTreeSet::new(),
            broken: broken.into_iter().map(|(key, _)| key).collect(),
        })
    }

    /// Containers whose sandbox has no record.
    pub fn homeless(&self) -> impl Iterator<Item = &str> {
        let has_none = |(id, sandbox): &(&String, &String)| {
            !self.sandboxes.contains_key(*sandbox) && !self.under_way.contains(*id)
        };
        self.containers.iter().filter(has_none).map(|(id, _)| id.as_str())
    }
}

impl Pods {
    /// What this daemon knows now. What earlier daemons left is waited for as long as it is
    /// being ended.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn known(&self) -> Result<Known, Error> {
        self.unknown_are_ended().await;
        // A call ends after its object is recorded.
        let under_way = self.operations().list().into_iter().map(|one| one.id).collect();
        let mut known = Known::read(&self.parts.database).await?;
        known.under_way = under_way;
        for sandbox in self.sandboxes() {
            let monitor = sandbox.record().monitor;
            if let Some(one) = known.sandboxes.get_mut(sandbox.id.as_str()) {
                one.monitor = one.monitor.or(monitor);
            }
        }
        Ok(known)
    }

    /// Deletes the record of a container whose sandbox has none, with what it holds of images.
    /// One that has become known is left alone.
    ///
    /// # Errors
    /// When the record cannot be deleted.
    pub async fn forget_homeless(&self, id: &str) -> Result<(), Error> {
        if !self.known().await?.homeless().any(|one| one == id) {
            return Ok(());
        }
        Ok(self.parts.database.submit(Batch::without(CONTAINERS, id)).known().await?)
    }

    /// Deletes a record that was put aside.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn forget_broken(&self, key: &str) -> Result<(), Error> {
        Ok(self.parts.database.submit(Batch::without(BROKEN, key)).known().await?)
    }

    /// Whether nothing stands for this id, so that what bears it can go.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn is_unknown(&self, id: &str) -> Result<bool, Error> {
        let known = self.known().await?;
        let has_object = self.objects().has_sandbox(&SandboxId::from(id.to_owned()))
            || self.container(ContainerId::from(id.to_owned()).as_str()).is_ok();
        Ok(!has_object
            && !known.containers.contains_key(id)
            && !known.sandboxes.contains_key(id)
            && !known.under_way.contains(id))
    }
}
