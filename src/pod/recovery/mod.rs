//! What a daemon does with the pods of the one before it.
//!
//! The database says what exists and the monitors say what runs. What the database knows is
//! there before the first call is served; everything that may have to wait for somebody is done
//! beside the calls, pod by pod: a sandbox of an earlier boot runs no more, one that was being
//! made is undone, one that was ready is taken up (`monitors/take_up.rs`), one that was stopped
//! and not cleaned up is. Pods that nobody knows any more are ended (`unknown`), and then what
//! belongs to no record is swept away.

mod load;
mod sweep;
mod unknown;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tracing::{error, info};

use super::{
    Pods, blocking,
    error::Error,
    id::ContainerId,
    sandbox::{Sandbox, SandboxPhase},
};
use crate::kind::chain;
use load::Remains;

pub(super) use load::Left;

/// How long a new pod waits for the end of those that nobody knows any more.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(10);

/// How long after its start a daemon looks for what earlier ones left, unless something is to be
/// made before.
const LEISURE: Duration = Duration::from_secs(1);

/// More pods than a list waits for: a kubelet's own limit is 110, and these are a moment's work.
const MANY: usize = 200;

/// How far the recovery has come.
pub(super) struct Progress {
    /// Once the names of what earlier daemons left are known, nothing new is taken for it.
    names_are_read: watch::Sender<bool>,
    /// Somebody waits for that.
    wanted: Notify,
    unknown_are_ended: watch::Sender<bool>,
    /// Once all of them are, or are known not to answer.
    are_taken_up: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            names_are_read: watch::Sender::new(false),
            wanted: Notify::new(),
            unknown_are_ended: watch::Sender::new(false),
            are_taken_up: AtomicBool::new(false),
        }
    }
}

impl Pods {
    /// Begins to take up, to undo and to clean up, and does not wait for it.
    pub(super) fn recover(self: &Arc<Self>, left: Left) {
        for sandbox in left.unfinished {
            info!(sandbox.id = %sandbox.id, "undoing a sandbox that was not finished");
            let pods = Arc::clone(self);
            tokio::spawn(async move {
                pods.reach_for_the_end(&sandbox).await;
                pods.undo_sandbox(&sandbox).await;
            });
        }
        let sandboxes = self.sandboxes();
        info!(sandboxes = sandboxes.len(), containers = self.containers().len(), "state is read");
        for sandbox in &sandboxes {
            self.recover_sandbox(sandbox);
        }
        let pods = Arc::clone(self);
        tokio::spawn(async move {
            let (remains, ()) =
                tokio::join!(pods.remains(left.known), pods.end_unknown(left.unknown));
            pods.remove_homeless(&left.homeless).await;
            match remains {
                // Plugins that collect garbage are told which pods there are: none may come
                // meanwhile, as far as that does not take too long.
                Ok(remains) => pods.sweep(remains).await,
                Err(error) => {
                    error!(error = %chain(&error), "what earlier daemons left cannot be looked for");
                }
            }
            pods.recovery.unknown_are_ended.send_replace(true);
            pods.take_out(left.trash).await;
        });
    }

    /// Looks for what containers left, but not while the first calls want to be answered: there
    /// are names by the thousand.
    async fn remains(self: &Arc<Self>, known: HashSet<ContainerId>) -> Result<Remains, Error> {
        let _ = timeout(LEISURE, self.recovery.wanted.notified()).await;
        let pods = Arc::clone(self);
        let remains = blocking::own_files(move || pods.look_for_remains(&known)).await;
        self.recovery.names_are_read.send_replace(true);
        remains
    }

    /// Waits until what is made now is not taken for what an earlier daemon left.
    pub(super) async fn names_are_read(&self) {
        let mut read = self.recovery.names_are_read.subscribe();
        let is_read = *read.borrow();
        if !is_read {
            self.recovery.wanted.notify_one();
            // Its sender lives as long as this.
            let _ = read.wait_for(|read| *read).await;
        }
    }

    fn recover_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let (phase, is_dismantled) = {
            let record = sandbox.record();
            (record.phase, record.dismantled)
        };
        match phase {
            SandboxPhase::Ready => self.take_up(sandbox),
            _ if is_dismantled => {}
            _ => {
                let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
                tokio::spawn(async move {
                    pods.reach_for_the_end(&sandbox).await;
                    pods.dismantle_later(&sandbox);
                });
            }
        }
    }

    /// Waits until nothing has the addresses of a pod that nobody knows.
    pub(super) async fn unknown_are_ended(&self) {
        self.names_are_read().await;
        let mut ended = self.recovery.unknown_are_ended.subscribe();
        if *ended.borrow() {
            return;
        }
        // One of them that cannot be ended must not keep the node from new pods.
        let _ = timeout(UNKNOWN_LIMIT, ended.wait_for(|ended| *ended)).await;
    }

    /// Waits a moment for pods that are being taken up, so that a list that is asked for right
    /// after a restart tells how they are. So many that it takes longer are not waited for.
    pub async fn taken_up(&self, limit: Duration) {
        if self.recovery.are_taken_up.load(Ordering::Relaxed) {
            return;
        }
        let mut sandboxes = self.sandboxes();
        sandboxes.retain(|sandbox| !sandbox.is_taken_up());
        if sandboxes.len() > MANY {
            return;
        }
        let all = async {
            for sandbox in &sandboxes {
                sandbox.taken_up(limit).await;
            }
        };
        if timeout(limit, all).await.is_ok() {
            self.recovery.are_taken_up.store(true, Ordering::Relaxed);
        }
    }
}
