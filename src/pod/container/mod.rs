//! A container and its states.
//!
//! ```text
//! Created ──start──► Running ──exit──► Exited ──remove──► (gone)
//!     └──the start failed (StartError)──►┘
//! ```

pub(super) mod apparmor;
pub(super) mod check;
mod create_container;
mod declared_volumes;
pub(super) mod devices;
mod extras;
pub(super) mod filters;
mod hooks;
mod image_volumes;
mod io_classes;
pub(super) mod layer;
mod log_path;
mod oom;
mod phase;
pub(super) mod propagation;
mod refusals;
mod remove_container;
mod reopen_container_log;
mod start_container;
mod stop_container;
mod update_container_resources;
pub(super) mod usage;
mod user;

use std::{
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::{
    image::ImageId,
    monitor::record::ExitRecord,
    pod::{
        CONTAINERS,
        error::{Error, Reason},
        happening::{Happening, Tell},
        id::{ContainerId, SandboxId},
        told::Told,
    },
    spec::{config::ContainerConfig, container::User},
    store::{Batch, Database, Deferred, Outcome},
    telemetry::Stage,
};
use filters::Filter;
pub use phase::ContainerPhase;
pub use refusals::Counts;

/// What is known and stored of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The sandbox it is in.
    pub sandbox: SandboxId,
    /// What was asked for, with resources as they are now.
    pub config: Deferred<ContainerConfig>,
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
    /// The project of its writable layer; none where the disk has none.
    #[serde(default)]
    pub project: Option<u32>,
    /// Whether hooks are to be run when it is gone.
    #[serde(default)]
    pub has_last_hooks: bool,
}

/// A container.
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// The calls that are under way with it.
    pub stage: Stage,
    /// What lists tell of it, in the words of those who ask.
    pub told: Told,
    own: Weak<Self>,
    tell: Tell<Self>,
    // Held for reads and writes of memory, never across an await; `start` before `record`.
    start: Mutex<Start>,
    record: Mutex<ContainerRecord>,
    /// Changes with the phase, for those who wait for an end.
    changes: Notify,
    // Its spec, known from its creation or read when it is first needed.
    spec: Mutex<Option<Arc<Spec>>>,
    /// Its own filter of system calls, compiled when it was first needed.
    filter: Mutex<Option<Arc<Filter>>>,
    /// What its filter has refused, where somebody wants to know.
    refused: Mutex<Counts>,
    /// Held by what changes its limits.
    pub(super) limits: AsyncMutex<()>,
    /// Its record is deleted, and must not be written again.
    forgotten: AtomicBool,
}

/// A start that is under way.
#[derive(Debug, Default)]
struct Start {
    is_under_way: bool,
    /// An end that was told before the start was.
    end: Option<ExitRecord>,
    /// It is being removed, and is not started any more.
    is_closed: bool,
}

impl Container {
    pub(super) fn new(id: ContainerId, record: ContainerRecord, tell: Tell<Self>) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            id,
            stage: Stage::default(),
            told: Told::default(),
            own: Weak::clone(own),
            tell,
            start: Mutex::default(),
            record: Mutex::new(record),
            changes: Notify::new(),
            spec: Mutex::new(None),
            filter: Mutex::new(None),
            refused: Mutex::default(),
            limits: AsyncMutex::default(),
            forgotten: AtomicBool::new(false),
        })
    }

    /// What is known of it now.
    pub fn record(&self) -> MutexGuard<'_, ContainerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> MutexGuard<'_, Start> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spec(&self) -> Option<Arc<Spec>> {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_spec(&self, spec: Option<Arc<Spec>>) {
        *self.spec.lock().unwrap_or_else(PoisonError::into_inner) = spec;
    }

    pub(super) fn filter(&self) -> Option<Arc<Filter>> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_filter(&self, filter: Option<Arc<Filter>>) {
        *self.filter.lock().unwrap_or_else(PoisonError::into_inner) = filter;
    }

    /// The system calls that its filter has refused, where its pod wants to know of them.
    pub fn refused_calls(&self) -> Counts {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what was counted; answers with what was known before.
    fn set_refused_calls(&self, counts: Counts) -> Counts {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *refused, counts)
    }

    /// Takes over what has happened to it, which is so whether or not the disk takes it: what
    /// is not stored, the monitor tells the next daemon. The order in which it is stored is
    /// the order in which it is seen. Whether `change` changed anything, as it says.
    pub(super) fn observe(
        &self,
        database: &Database,
        change: impl FnOnce(&mut ContainerRecord) -> bool,
    ) -> bool {
        let mut record = self.record();
        let before = record.phase.name();
        if !change(&mut record) {
            return false;
        }
        match &record.phase {
            phase if phase.name() == before => {}
            ContainerPhase::Created => {}
            ContainerPhase::Running { .. } => self.happened(Happening::Started),
            ContainerPhase::Exited { .. } => self.happened(Happening::Stopped),
        }
        if !self.forgotten.load(Ordering::Relaxed) {
            match Batch::of(CONTAINERS, self.id.as_str(), &*record) {
                Ok(batch) => database.observe(batch).later(),
                Err(error) => {
                    tracing::error!(container.id = %self.id, %error, "it cannot be stored");
                }
            }
        }
        drop(record);
        self.changes.notify_waiters();
        true
    }

    /// Tells those who want to know.
    pub(super) fn happened(&self, happening: Happening) {
        if let Some(own) = self.own.upgrade() {
            (self.tell)(happening, own);
        }
    }

    /// Deletes the record for good.
    pub(super) fn forget(&self, database: &Database) -> Outcome {
        let _record = self.record();
        self.forgotten.store(true, Ordering::Relaxed);
        database.observe(Batch::without(CONTAINERS, self.id.as_str()))
    }

    /// Begins its one start.
    pub(super) fn begin_start(&self) -> Result<(), Error> {
        let mut start = self.start();
        if start.is_under_way {
            return Err(self.is_in_state("being started", "starting it", ""));
        }
        if start.is_closed {
            return Err(self.is_in_state("being removed", "starting it", ""));
        }
        if self.record().phase != ContainerPhase::Created {
            return Err(self.wrong_state("starting it", "; create a new container"));
        }
        start.is_under_way = true;
        Ok(())
    }

    /// Lets nobody start it any more; whether nothing of it runs by then.
    pub(super) fn close(&self) -> bool {
        let mut start = self.start();
        start.is_closed = !start.is_under_way && !self.is_running();
        start.is_closed
    }

    /// Whether it was ended while its start is under way.
    pub(super) fn is_ended_already(&self) -> bool {
        self.start().end.is_some()
    }

    /// Ends its start with the phase that it came to, and with an end that was told meanwhile;
    /// whether there was one.
    pub(super) fn finish_start(&self, database: &Database, phase: ContainerPhase) -> bool {
        let mut start = self.start();
        start.is_under_way = false;
        let end = start.end.take();
        self.observe(database, |record| {
            let is_first = record.phase == ContainerPhase::Created;
            if is_first {
                record.phase = phase;
            }
            is_first
        });
        if let Some(end) = &end {
            self.end(database, end);
        }
        drop(start);
        self.changes.notify_waiters();
        end.is_some()
    }

    /// Takes over how it ended. While it is being started, that comes first.
    pub(super) fn ended_with(&self, database: &Database, exit: &ExitRecord) {
        let mut start = self.start();
        if start.is_under_way {
            start.end.get_or_insert_with(|| exit.clone());
            return;
        }
        self.end(database, exit);
    }

    fn end(&self, database: &Database, exit: &ExitRecord) {
        // Also where the first process lived on and ended well: what was lost is lost.
        let (reason, message) = match exit {
            ExitRecord { stopped_for_refusal: true, .. } => {
                ("SeccompKilled", refusals::message(&self.refused_calls()))
            }
            ExitRecord { oom_killed: true, .. } => ("OOMKilled", oom::message(exit)),
            ExitRecord { exit_code: 0, .. } => ("Completed", String::new()),
            _ => ("Error", String::new()),
        };
        self.end_because(database, exit, reason, message);
    }

    /// The same with a reason that is not in the exit itself; what is known already stays.
    pub(super) fn end_because(
        &self,
        database: &Database,
        exit: &ExitRecord,
        reason: &str,
        message: String,
    ) {
        let has_ended = self.observe(database, |record| {
            let started_at = match record.phase {
                ContainerPhase::Exited { .. } => return false,
                ContainerPhase::Created => 0,
                ContainerPhase::Running { started_at, .. } => started_at,
            };
            record.phase = ContainerPhase::Exited {
                started_at,
                finished_at: exit.finished_at,
                exit_code: exit.exit_code,
                reason: reason.to_owned(),
                message,
            };
            true
        });
        if has_ended {
            // Thousands of ended containers are waited for by nobody.
            self.set_spec(None);
            self.set_filter(None);
            let exit_code = exit.exit_code;
            tracing::info!(container.id = %self.id, exit_code, reason, "container has ended");
        }
    }

    /// Waits until something is so of its phase.
    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let mut change = pin!(self.changes.notified());
            // From here on none is missed.
            change.as_mut().enable();
            if is_so() {
                return;
            }
            change.await;
        }
    }

    /// Waits until it neither runs nor is on the way to it.
    pub(super) async fn settled(&self) {
        self.until(|| self.is_settled()).await;
    }

    /// Waits until it is not on the way to its program any more.
    pub(super) async fn started(&self) {
        self.until(|| !self.is_starting()).await;
    }

    /// Waits until it does not run.
    pub async fn ended(&self) {
        self.until(|| !self.is_running()).await;
    }

    /// Whether its program runs.
    pub fn is_running(&self) -> bool {
        matches!(self.record().phase, ContainerPhase::Running { .. })
    }

    pub(super) fn is_starting(&self) -> bool {
        self.start().is_under_way
    }

    /// Whether it neither runs nor is on the way to it.
    pub(super) fn is_settled(&self) -> bool {
        let start = self.start();
        !start.is_under_way && !self.is_running()
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.record().phase, ContainerPhase::Exited { .. })
    }

    pub(super) fn wrong_state(&self, action: &'static str, hint: &'static str) -> Error {
        let state = self.record().phase.name();
        self.is_in_state(state, action, hint)
    }

    fn is_in_state(&self, state: &'static str, action: &'static str, hint: &'static str) -> Error {
        Reason::State { what: "container", id: self.id.to_string(), state, action, hint }.into()
    }
}

/// The identity of a container.
pub(in crate::pod) fn key_of(sandbox: &SandboxId, config: &ContainerConfig) -> String {
    serde_json::json!([sandbox, config.metadata.name, config.metadata.attempt]).to_string()
}
