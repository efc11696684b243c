//! A sandbox and its states.
//!
//! ```text
//! Creating ──► Ready ──stop──► NotReady ──remove──► (gone)
//!     └─failed, or found at a restart─────────────► (gone)
//! ```

mod addresses;
pub(super) mod check;
pub(super) mod dismantle;
pub(super) mod files;
mod network;
mod remove_pod_sandbox;
mod run_pod_sandbox;
pub(super) mod scope;
mod setup;
mod stop_pod_sandbox;
mod sysctls;
pub(super) mod unmake;
mod update_pod_sandbox_resources;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    monitor::client::{Monitor, Traces},
    network::PodRequest,
    pod::{
        SANDBOXES,
        error::{Error, Reason},
        happening::{Happening, Tell},
        id::SandboxId,
        selinux::levels::Lease,
        told::Told,
    },
    spec::config::{NamespaceMode, SandboxConfig},
    store::{Batch, Database, Outcome},
    sys::process::Identity,
    telemetry::Stage,
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
    /// Where the memory filesystem for its files is mounted; none in records of Criquet 0.1,
    /// whose pods have them in their directory.
    #[serde(default)]
    pub files: Option<PathBuf>,
    /// The cgroup that its containers' cgroups lie in.
    pub cgroup: PathBuf,
    /// Whether that cgroup is Criquet's own and goes with the sandbox.
    pub owns_cgroup: bool,
    /// The slice of systemd that it lies in, where that cgroup is a scope.
    #[serde(default)]
    pub slice: Option<String>,
    /// The cgroup of its monitor, below that one; none in records of Criquet 0.1, which had it
    /// in scopes alone.
    #[serde(default)]
    pub monitor_cgroup: Option<PathBuf>,
    /// What the network was asked for; none with the host's, and when it is torn down.
    pub network: Option<PodRequest>,
    /// The boot of the node that it was made in.
    pub boot_id: String,
    /// The process id of its monitor.
    pub monitor_pid: u32,
    /// Its monitor, as the process that it is; none in records of Criquet 0.1.
    #[serde(default)]
    pub monitor: Option<Identity>,
    /// The SELinux level of its containers, where they have labels. One that is its own is kept
    /// from others.
    #[serde(default)]
    pub selinux_level: Option<String>,
    /// Whether nothing of it is left but this record.
    #[serde(default)]
    pub dismantled: bool,
}

/// Why a pod is not to be reached.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What its monitor was asked for.
    pub stage: &'static str,
    /// What became of it.
    pub words: String,
    /// Since when.
    pub since: Instant,
}

impl SandboxRecord {
    /// The cgroup of the init of the PID namespace that its containers share.
    pub(in crate::pod) fn init_cgroup(&self) -> Option<PathBuf> {
        let shares = self.config.security.namespaces.pid == NamespaceMode::Pod;
        shares.then(|| self.cgroup.join("init"))
    }

    /// What outlives its processes.
    pub(in crate::pod) fn traces(&self) -> Traces {
        Traces {
            netns: self.netns.clone(),
            shm: self.shm.clone(),
            files: self.files.clone(),
            init: self.init_cgroup(),
            monitor: self.monitor_cgroup(),
            cgroup: self.owns_cgroup.then(|| self.cgroup.clone()),
        }
    }
}

/// A sandbox.
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// The calls that are under way with it.
    pub stage: Stage,
    /// What lists tell of it, in the words of those who ask.
    pub told: Told,
    own: Weak<Self>,
    tell: Tell<Self>,
    // Held for reads and writes of memory, never across an await.
    record: Mutex<SandboxRecord>,
    link: Mutex<Link>,
    /// Changes with the link.
    changes: watch::Sender<()>,
    /// Cancelled when its end begins: nothing is made or started in it from then on.
    pub(in crate::pod) ending: CancellationToken,
    /// Its SELinux level is nobody else's for as long.
    pub(in crate::pod) level: OnceLock<Lease>,
    /// Held by what changes its resources.
    limits: AsyncMutex<()>,
    /// Held by the one task that takes it up.
    turn: Arc<AsyncMutex<()>>,
    /// A task tries again and again to take it apart.
    pub(in crate::pod) dismantling: AtomicBool,
    /// Its record is deleted, and must not be written again.
    forgotten: AtomicBool,
}

/// What the daemon has of a pod's monitor.
#[derive(Default)]
struct Link {
    monitor: Option<Monitor>,
    /// The descriptor that the connection has.
    _place: Option<OwnedSemaphorePermit>,
    trouble: Option<Trouble>,
    /// What happened before this daemon is taken over.
    is_known: bool,
}

/// How long a call waits for a pod that is being taken up.
const TAKE_UP: Duration = Duration::from_secs(5);

impl Sandbox {
    pub(in crate::pod) fn new(id: SandboxId, record: SandboxRecord, tell: Tell<Self>) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            id,
            stage: Stage::default(),
            told: Told::default(),
            own: Weak::clone(own),
            tell,
            record: Mutex::new(record),
            link: Mutex::default(),
            changes: watch::Sender::new(()),
            ending: CancellationToken::new(),
            level: OnceLock::new(),
            limits: AsyncMutex::default(),
            turn: Arc::default(),
            dismantling: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
        })
    }

    /// What is known of it now.
    pub fn record(&self) -> MutexGuard<'_, SandboxRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what has happened to it, which is so whether or not the disk takes it. The
    /// order in which it is stored is the order in which it is seen.
    pub(in crate::pod) fn observe(
        &self,
        database: &Database,
        change: impl FnOnce(&mut SandboxRecord),
    ) -> Option<Outcome> {
        let mut record = self.record();
        let was_ready = record.phase == SandboxPhase::Ready;
        change(&mut record);
        if was_ready && record.phase == SandboxPhase::NotReady {
            self.happened(Happening::Stopped);
        }
        if self.forgotten.load(Ordering::Relaxed) {
            return None;
        }
        let batch = Batch::of(SANDBOXES, self.id.as_str(), &*record);
        match batch {
            Ok(batch) => Some(database.observe(batch)),
            Err(error) => {
                tracing::error!(sandbox.id = %self.id, %error, "the sandbox cannot be stored");
                None
            }
        }
    }

    /// Tells those who want to know.
    pub(in crate::pod) fn happened(&self, happening: Happening) {
        if let Some(own) = self.own.upgrade() {
            (self.tell)(happening, own);
        }
    }

    /// Deletes the record for good.
    pub(in crate::pod) fn forget(&self, database: &Database) -> Outcome {
        let _record = self.record();
        self.forgotten.store(true, Ordering::Relaxed);
        database.observe(Batch::without(SANDBOXES, self.id.as_str()))
    }

    pub(in crate::pod) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// For the one task that takes it up; none while there is one.
    pub(in crate::pod) fn take_turn(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// Takes a connection to its monitor.
    pub(in crate::pod) fn set_monitor(&self, monitor: Monitor, place: OwnedSemaphorePermit) {
        self.change_link(Some(monitor), Some(place));
    }

    /// Gives the connection to its monitor up.
    pub(in crate::pod) fn drop_monitor(&self) {
        self.change_link(None, None);
    }

    fn change_link(&self, monitor: Option<Monitor>, place: Option<OwnedSemaphorePermit>) {
        let mut link = self.link();
        link.trouble = None;
        link.is_known &= monitor.is_some();
        link.monitor = monitor;
        link._place = place;
        drop(link);
        self.changes.send_replace(());
    }

    /// Its monitor, however it is.
    pub(in crate::pod) fn monitor(&self) -> Option<Monitor> {
        self.link().monitor.clone()
    }

    /// The process id of its monitor, while it has one.
    pub(in crate::pod) fn monitor_pid(&self) -> Option<u32> {
        Some(self.record().monitor_pid).filter(|pid| *pid != 0)
    }

    /// Notes that its monitor does not answer; whether that is news.
    pub(in crate::pod) fn is_silent(&self, stage: &'static str, words: String) -> bool {
        let mut link = self.link();
        let since = link.trouble.as_ref().map(|trouble| trouble.since);
        let is_news = since.is_none();
        let since = since.unwrap_or_else(Instant::now);
        link.trouble = Some(Trouble { stage, words, since });
        drop(link);
        self.changes.send_replace(());
        is_news
    }

    /// Notes that its monitor answers, and that all it had to tell is taken over; whether it
    /// did not answer before.
    pub(in crate::pod) fn answers(&self) -> bool {
        let mut link = self.link();
        link.is_known = true;
        let was_silent = link.trouble.take().is_some();
        drop(link);
        self.changes.send_replace(());
        was_silent
    }

    /// Why it cannot be reached, if it cannot.
    pub fn trouble(&self) -> Option<Trouble> {
        self.link().trouble.clone()
    }

    /// Whether containers can be made in it.
    pub fn is_ready(&self) -> bool {
        self.record().phase == SandboxPhase::Ready && self.link().trouble.is_none()
    }

    /// Whether it is known what happened before this daemon, or that the pod does not answer.
    pub(in crate::pod) fn is_taken_up(&self) -> bool {
        let is_decided = || {
            let link = self.link();
            link.is_known || link.trouble.is_some()
        };
        self.record().phase != SandboxPhase::Ready || is_decided()
    }

    /// Waits until what happened before this daemon is known, or the pod does not answer, or
    /// the time is over.
    pub async fn taken_up(&self, limit: Duration) {
        let mut changes = self.changes.subscribe();
        let decided = async {
            while !self.is_taken_up() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // The caller goes on with what is known by then.
        let _ = timeout(limit, decided).await;
    }

    /// Its monitor, for something that needs a ready sandbox.
    pub(in crate::pod) async fn ready_monitor(
        &self,
        action: &'static str,
    ) -> Result<Monitor, Error> {
        if let Some(monitor) = self.usable(action)? {
            return Ok(monitor);
        }
        self.taken_up(TAKE_UP).await;
        let state = "being taken up";
        self.usable(action)?.ok_or_else(|| self.wrong_state(state, action, "; try again"))
    }

    /// Whether something can be made in it, as far as is known without waiting.
    pub(in crate::pod) fn check_open(&self, action: &'static str) -> Result<(), Error> {
        self.usable(action).map(drop)
    }

    fn usable(&self, action: &'static str) -> Result<Option<Monitor>, Error> {
        let state = match self.record().phase {
            SandboxPhase::Creating => "being created",
            SandboxPhase::NotReady => "not ready",
            SandboxPhase::Ready if self.ending.is_cancelled() => "being stopped",
            SandboxPhase::Ready => {
                let link = self.link();
                return match &link.trouble {
                    None => Ok(link.monitor.clone()),
                    Some(Trouble { stage, words, .. }) => Err(Reason::Silent {
                        id: self.id.to_string(),
                        stage,
                        words: words.clone(),
                        action,
                    }
                    .into()),
                };
            }
        };
        Err(self.wrong_state(state, action, "; create a new sandbox"))
    }

    fn wrong_state(&self, state: &'static str, action: &'static str, hint: &'static str) -> Error {
        Reason::State { what: "sandbox", id: self.id.to_string(), state, action, hint }.into()
    }
}

/// The identity of a sandbox.
pub(in crate::pod) fn key_of(config: &SandboxConfig) -> String {
    let metadata = &config.metadata;
    serde_json::json!([metadata.namespace, metadata.name, metadata.uid, metadata.attempt])
        .to_string()
}
