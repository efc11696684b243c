//! What a pod is made of outside of the database: enough to end it where nothing else is
//! known of it any more, because the database is lost, or its record does not parse.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{SandboxRecord, scope::scope_of};
use crate::{
    monitor::client::Traces,
    pod::error::{During, Error},
    sys::process::Identity,
};

/// The name of the file in the pod's directory.
const FILE: &str = "remains";

/// What outlives everything that knows of a pod. Fields may be added, each with a default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::pod) struct Remains {
    /// Its monitor.
    pub monitor: Option<Identity>,
    /// Where its network namespace is bound.
    pub netns: Option<PathBuf>,
    /// Where its `/dev/shm` is mounted.
    pub shm: Option<PathBuf>,
    /// Where the memory filesystem for its files is mounted.
    pub files: Option<PathBuf>,
    /// The cgroup of the init that its containers share.
    pub init: Option<PathBuf>,
    /// The cgroup of its monitor, where it has one of its own.
    pub monitor_cgroup: Option<PathBuf>,
    /// The cgroup that its containers' cgroups lie in.
    pub cgroup: Option<PathBuf>,
    /// Whether that one goes with the pod.
    pub owns_cgroup: bool,
}

impl Remains {
    pub(in crate::pod) fn of(record: &SandboxRecord) -> Self {
        Self {
            monitor: record.monitor,
            netns: record.netns.clone(),
            shm: record.shm.clone(),
            files: record.files.clone(),
            init: record.init_cgroup(),
            monitor_cgroup: record.monitor_cgroup(),
            cgroup: Some(record.cgroup.clone()),
            owns_cgroup: record.owns_cgroup,
        }
    }

    pub(in crate::pod) fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        let json = serde_json::to_vec(self).map_err(std::io::Error::from);
        json.and_then(|json| fs::write(&path, json)).during("write", &path)
    }

    /// What is known of the pod of a directory; nothing where there is no such file.
    pub(in crate::pod) fn read(directory: &Path) -> Self {
        let json = fs::read(directory.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    }

    /// The name of its scope; none of one that systemd does not know.
    pub(in crate::pod) fn scope(&self) -> Option<String> {
        self.monitor_cgroup.as_ref().and(self.cgroup.as_deref()).and_then(scope_of)
    }

    /// What is to be unmounted and removed.
    pub(in crate::pod) fn traces(&self) -> Traces {
        Traces {
            netns: self.netns.clone(),
            shm: self.shm.clone(),
            files: self.files.clone(),
            init: self.init.clone(),
            monitor: self.monitor_cgroup.clone(),
            cgroup: self.cgroup.clone().filter(|_| self.owns_cgroup),
        }
    }
}
