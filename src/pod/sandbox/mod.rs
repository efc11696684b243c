//! A sandbox and its states.
//!
//! ```text
//! Creating ──► Ready ──stop──► NotReady ──remove──► (gone)
//!     └─failed, or found at a restart─────────────► (gone)
//! ```

pub(super) mod check;
pub(super) mod files;
mod remove_pod_sandbox;
mod run_pod_sandbox;
mod stop_pod_sandbox;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    monitor::client::{Monitor, Traces},
    network::PodRequest,
    pod::{
        SANDBOXES,
        error::{Error, Reason},
        id::SandboxId,
    },
    spec::config::SandboxConfig,
    store::Database,
};

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxPhase {
    /// Being made; what a restart finds so is undone.
    Creating,
    /// Containers can be made in it.
    Ready,
    /// Its processes and its network are gone.
    NotReady,
}

/// What is known and stored of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// What was asked for.
    pub config: SandboxConfig,
    /// The runtime handler that was asked for.
    pub runtime_handler: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Where it is in its life.
    pub phase: SandboxPhase,
    /// Its addresses, the primary one first; none with the host's network.
    pub addresses: Vec<IpAddr>,
    /// Where its network namespace is bound; none with the host's.
    pub netns: Option<PathBuf>,
    /// Where its `/dev/shm` is mounted; none with the host's IPC.
    pub shm: Option<PathBuf>,
    /// The cgroup that its containers' cgroups lie in.
    pub cgroup: PathBuf,
    /// Whether that cgroup is Criquet's own and goes with the sandbox.
    pub owns_cgroup: bool,
    /// What the network was asked for; none with the host's, and when it is torn down.
    pub network: Option<PodRequest>,
    /// The boot of the node that it was made in.
    pub boot_id: String,
    /// The process id of its monitor.
    pub monitor_pid: u32,
}

impl SandboxRecord {
    /// What outlives its processes.
    pub(in crate::pod) fn traces(&self) -> Traces {
        Traces {
            netns: self.netns.clone(),
            shm: self.shm.clone(),
            cgroup: self.owns_cgroup.then(|| self.cgroup.clone()),
        }
    }
}

/// A sandbox.
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    // Held for reads and writes of memory, never across an await.
    record: Mutex<SandboxRecord>,
    monitor: Mutex<Option<Monitor>>,
    /// Held by what stops or removes it.
    pub(in crate::pod) operation: AsyncMutex<()>,
}

impl Sandbox {
    pub(in crate::pod) fn new(id: SandboxId, record: SandboxRecord) -> Arc<Self> {
        Arc::new(Self {
            id,
            record: Mutex::new(record),
            monitor: Mutex::new(None),
            operation: AsyncMutex::default(),
        })
    }

    /// What is known of it now.
    pub fn record(&self) -> MutexGuard<'_, SandboxRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record and stores it before anybody else sees the change.
    pub(in crate::pod) fn update(
        &self,
        database: &Database,
        change: impl FnOnce(&mut SandboxRecord),
    ) -> Result<(), Error> {
        let mut record = self.record();
        let mut changed = record.clone();
        change(&mut changed);
        database.put(SANDBOXES, self.id.as_str(), &changed)?;
        *record = changed;
        Ok(())
    }

    /// Takes over that it has ended, which is so whether or not it can be stored. On a full
    /// disk that is what makes room; the next daemon finds no monitor and ends it once more.
    pub(in crate::pod) fn ended(&self, database: &Database) {
        let mut record = self.record();
        record.phase = SandboxPhase::NotReady;
        record.network = None;
        if let Err(error) = database.put(SANDBOXES, self.id.as_str(), &*record) {
            tracing::warn!(sandbox.id = %self.id, %error, "the sandbox's state is not stored");
        }
    }

    pub(in crate::pod) fn set_monitor(&self, monitor: Option<Monitor>) {
        *self.monitor.lock().unwrap_or_else(PoisonError::into_inner) = monitor;
    }

    pub(in crate::pod) fn monitor(&self) -> Option<Monitor> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its monitor, for something that needs a ready sandbox.
    pub(in crate::pod) fn ready_monitor(&self, action: &'static str) -> Result<Monitor, Error> {
        let phase = self.record().phase;
        let monitor = self.monitor().filter(|_| phase == SandboxPhase::Ready);
        monitor.ok_or_else(|| {
            Reason::State {
                what: "sandbox",
                id: self.id.to_string(),
                state: match phase {
                    SandboxPhase::Creating => "being created",
                    SandboxPhase::Ready => "without its monitor",
                    SandboxPhase::NotReady => "not ready",
                },
                action,
                hint: "; create a new sandbox",
            }
            .into()
        })
    }
}

/// The identity of a sandbox.
pub(in crate::pod) fn key_of(config: &SandboxConfig) -> String {
    let metadata = &config.metadata;
    serde_json::json!([metadata.namespace, metadata.name, metadata.uid, metadata.attempt])
        .to_string()
}
