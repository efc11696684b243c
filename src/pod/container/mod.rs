//! A container and its states.
//!
//! ```text
//! Created ──start──► Running ──exit──► Exited ──remove──► (gone)
//!     └──the start failed (StartError)──►┘
//! ```

pub(super) mod apparmor;
pub(super) mod check;
mod create_container;
pub(super) mod devices;
pub(super) mod filters;
mod image_volumes;
pub(super) mod propagation;
mod remove_container;
mod reopen_container_log;
mod start_container;
mod stop_container;
mod update_container_resources;
pub(super) mod usage;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::{
    image::ImageId,
    pod::{
        CONTAINERS,
        error::{Error, Reason},
        id::{ContainerId, SandboxId},
    },
    spec::{config::ContainerConfig, container::User},
    store::Database,
};

/// Where a container is in its life. Times are nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPhase {
    /// Its program has not been started.
    Created,
    /// Its program runs.
    Running {
        /// Its first process, in the host's PID namespace.
        pid: i32,
        /// When.
        started_at: i64,
    },
    /// It has ended.
    Exited {
        /// When it was started; 0 if it never ran.
        started_at: i64,
        /// When it ended.
        finished_at: i64,
        /// 128 + n where signal n ended it.
        exit_code: i32,
        /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
        reason: String,
        /// More words, where there are some.
        message: String,
    },
}

impl ContainerPhase {
    pub(in crate::pod) fn name(&self) -> &'static str {
        match self {
            ContainerPhase::Created => "created",
            ContainerPhase::Running { .. } => "running",
            ContainerPhase::Exited { .. } => "exited",
        }
    }
}

/// What is known and stored of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The sandbox it is in.
    pub sandbox: SandboxId,
    /// What was asked for, with resources as they are now.
    pub config: ContainerConfig,
    /// The one id of its image.
    pub image_id: ImageId,
    /// A name of its image with a digest, or the id.
    pub image_ref: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Where it is in its life.
    pub phase: ContainerPhase,
    /// Who it runs as.
    pub user: User,
    /// Its log; none without.
    pub log_path: Option<PathBuf>,
    /// The signal that stops it, by number.
    pub stop_signal: i32,
    /// Its cgroup.
    pub cgroup: PathBuf,
}

/// A container.
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    // Held for reads and writes of memory, never across an await.
    record: Mutex<ContainerRecord>,
    /// Changes with the phase, for those who wait for an end.
    changes: watch::Sender<()>,
    // Its spec, known from its creation or read when it is first needed.
    spec: Mutex<Option<Arc<Spec>>>,
    /// Held by what starts, updates or removes it.
    pub(in crate::pod) operation: AsyncMutex<()>,
    /// Held while it starts, so that its exit is told after its start.
    pub(in crate::pod) starting: AsyncMutex<()>,
}

impl Container {
    pub(in crate::pod) fn new(id: ContainerId, record: ContainerRecord) -> Arc<Self> {
        Arc::new(Self {
            id,
            record: Mutex::new(record),
            changes: watch::Sender::new(()),
            spec: Mutex::new(None),
            operation: AsyncMutex::default(),
            starting: AsyncMutex::default(),
        })
    }

    /// What is known of it now.
    pub fn record(&self) -> MutexGuard<'_, ContainerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::pod) fn spec(&self) -> Option<Arc<Spec>> {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::pod) fn set_spec(&self, spec: Arc<Spec>) {
        *self.spec.lock().unwrap_or_else(PoisonError::into_inner) = Some(spec);
    }

    /// Changes the record and stores it before anybody else sees the change.
    pub(in crate::pod) fn update(
        &self,
        database: &Database,
        change: impl FnOnce(&mut ContainerRecord),
    ) -> Result<(), Error> {
        {
            let mut record = self.record();
            let mut changed = record.clone();
            change(&mut changed);
            database.put(CONTAINERS, self.id.as_str(), &changed)?;
            *record = changed;
        }
        self.changes.send_replace(());
        Ok(())
    }

    /// Takes over what has happened to it, which is so whether or not it can be stored. What
    /// is not stored, on a full disk, the monitor tells the next daemon.
    pub(in crate::pod) fn observe(&self, database: &Database, phase: ContainerPhase) {
        {
            let mut record = self.record();
            record.phase = phase;
            if let Err(error) = database.put(CONTAINERS, self.id.as_str(), &*record) {
                tracing::warn!(container.id = %self.id, %error, "the container's state is not stored");
            }
        }
        self.changes.send_replace(());
    }

    /// Waits until it does not run.
    pub async fn ended(&self) {
        let mut changes = self.changes.subscribe();
        while self.is_running() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether its program runs.
    pub fn is_running(&self) -> bool {
        matches!(self.record().phase, ContainerPhase::Running { .. })
    }

    pub(in crate::pod) fn has_ended(&self) -> bool {
        matches!(self.record().phase, ContainerPhase::Exited { .. })
    }

    pub(in crate::pod) fn wrong_state(&self, action: &'static str, hint: &'static str) -> Error {
        let state = self.record().phase.name();
        Reason::State { what: "container", id: self.id.to_string(), state, action, hint }.into()
    }
}

/// The identity of a container.
pub(in crate::pod) fn key_of(sandbox: &SandboxId, config: &ContainerConfig) -> String {
    serde_json::json!([sandbox, config.metadata.name, config.metadata.attempt]).to_string()
}
