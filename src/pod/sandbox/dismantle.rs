//! What takes a sandbox apart, from whatever state: its processes, its network, its monitor,
//! what of it is mounted, its files.
//!
//! Every step has a limit, and goes on past one that fails: a monitor that does not answer is
//! passed by and its pod's processes are killed through their cgroups.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Sandbox, SandboxPhase};
use crate::{
    crash,
    monitor::client,
    pod::{
        Pods, blocking,
        container::Container,
        error::{During, Error, Reason},
        stage,
    },
    runtime,
    sys::tree,
    telemetry::Operation,
};

/// How long a monitor may take to end its pod, whose containers have ended by then.
const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(3);

/// The same of one that has not answered before.
const MOMENT: Duration = Duration::from_millis(200);

/// How long the files and mounts of a pod may take to go.
const TRACES_LIMIT: Duration = Duration::from_secs(10);

/// The pauses between attempts at what has failed: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

impl Pods {
    /// Takes away everything of a sandbox but its record, which then says so. May be
    /// repeated, and for a sandbox that was never whole.
    ///
    /// # Errors
    /// The first step that failed. Whatever failed, all others were tried.
    pub(in crate::pod) async fn dismantle(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        operation: &Operation,
    ) -> Result<(), Error> {
        sandbox.ending.cancel();
        operation.stage("ending containers");
        let containers = self.containers_of(sandbox);
        // All at once: one that is slow to end holds up none of the others.
        let ends = containers.iter().map(|container| self.end_at_once(sandbox, container));
        let ended = join_all(ends).await.into_iter().collect::<Result<(), _>>();
        // Nothing of it runs but its monitor, and what the kernel does not end.
        // One that never was ready stays what the next daemon undoes.
        drop(sandbox.observe(&self.parts.database, |record| {
            if record.phase == SandboxPhase::Ready {
                record.phase = SandboxPhase::NotReady;
            }
        }));
        crash::point("dismantle: containers have ended");
        operation.waits_for(None);
        operation.stage("taking down the network");
        self.forget_network(sandbox);
        let network = self.leave_network(sandbox).await;
        crash::point("dismantle: network is down");
        operation.waits_for(sandbox.monitor_pid());
        operation.stage("ending the monitor");
        self.end_monitor(sandbox).await;
        self.settle_containers(sandbox, &containers).await;
        crash::point("dismantle: monitor has ended");
        operation.stage("removing files and mounts");
        let traces = self.remove_traces(sandbox).await;
        crash::point("dismantle: traces are removed");
        operation.stage("storing what is left");
        // The one that tells most comes first.
        ended.and(traces).and(network)?;
        drop(sandbox.observe(&self.parts.database, |record| record.dismantled = true));
        Ok(())
    }

    /// The same as an operation of the daemon's own.
    async fn clean_up(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let operation = self.on_sandbox("CleanUp", sandbox);
        let outcome = self.dismantle(sandbox, &operation).await;
        stage::ended(operation, outcome)
    }

    /// Lets the monitor end the pod, or else ends it without.
    async fn end_monitor(&self, sandbox: &Sandbox) {
        let Some(monitor) = sandbox.monitor() else { return self.kill_monitor(sandbox).await };
        let limit = match sandbox.trouble() {
            Some(_) => MOMENT,
            None => SHUT_DOWN_LIMIT,
        };
        match timeout(limit, monitor.shut_down()).await {
            // What it could not take away is taken away next.
            Ok(Ok(()) | Err(client::Error::Gone)) => {}
            Ok(Err(error)) => {
                warn!(sandbox.id = %sandbox.id, %error, "the pod's monitor is ended by force");
                self.kill_monitor(sandbox).await;
            }
            Err(_) => {
                warn!(sandbox.id = %sandbox.id,
                    "the pod's monitor does not answer and is ended by force");
                self.kill_monitor(sandbox).await;
            }
        }
        sandbox.drop_monitor();
    }

    /// SIGKILL for the monitor, if the process is still the one that was started for it.
    async fn kill_monitor(&self, sandbox: &Sandbox) {
        let (identity, boot_id) = {
            let record = sandbox.record();
            (record.monitor, record.boot_id.clone())
        };
        let Some(identity) = identity.filter(|_| boot_id == self.boot_id) else { return };
        if let Err(error) = identity.kill() {
            warn!(sandbox.id = %sandbox.id, %error, "the pod's monitor cannot be killed");
        }
    }

    /// Whatever a container was doing, it has ended with its pod.
    async fn settle_containers(&self, sandbox: &Sandbox, containers: &[Arc<Container>]) {
        let directory = self.sandbox_directory(&sandbox.id);
        for container in containers.iter().filter(|container| !container.is_settled()) {
            self.settle(container, &directory).await;
        }
    }

    /// Unmounts and removes what is left outside of the pod's processes.
    async fn remove_traces(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let (traces, scope) = {
            let record = sandbox.record();
            (record.traces(), record.scope())
        };
        let id = sandbox.id.to_string();
        let directory = self.sandbox_directory(&sandbox.id);
        let work = blocking::own_files(move || {
            traces.remove().map_err(|error| unkillable(error, &id))?;
            remove_directory(&directory)
        });
        let late = || Reason::TooSlow {
            what: "removing what a pod had mounted".to_owned(),
            seconds: TRACES_LIMIT.as_secs(),
        };
        let removed = timeout(TRACES_LIMIT, work).await.unwrap_or_else(|_| Err(late().into()));
        if removed.is_ok() {
            self.end_scope(scope).await;
        }
        removed
    }

    /// Tries again and again to take a sandbox apart, beside everything else, until nothing of
    /// it is left or it is removed.
    pub(in crate::pod) fn dismantle_later(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        if sandbox.dismantling.swap(true, Ordering::Relaxed) {
            return;
        }
        let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        tokio::spawn(async move {
            let mut pause = PAUSES[0];
            let mut told = false;
            while !sandbox.record().dismantled && !sandbox.is_forgotten() {
                match pods.clean_up(&sandbox).await {
                    Ok(()) if told => info!(sandbox.id = %sandbox.id, "the pod is cleaned up"),
                    Ok(()) => {}
                    Err(error) if !told => {
                        told = true;
                        warn!(sandbox.id = %sandbox.id, error = %crate::kind::chain(&error),
                            "the pod is not cleaned up yet; this is tried again");
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES[1]);
            }
            sandbox.dismantling.store(false, Ordering::Relaxed);
        });
    }

    /// Takes back what was made of a sandbox that never came to be; what does not go now goes
    /// later.
    pub(in crate::pod) async fn undo_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let mut pause = PAUSES[0];
        let first = self.clean_up(sandbox).await;
        let Err(error) = first else { return self.forget_undone(sandbox).await };
        warn!(sandbox.id = %sandbox.id, error = %crate::kind::chain(&error),
            "sandbox is not undone yet; this is tried again");
        let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES[1]);
                if pods.clean_up(&sandbox).await.is_ok() {
                    return pods.forget_undone(&sandbox).await;
                }
            }
        });
    }

    async fn forget_undone(&self, sandbox: &Sandbox) {
        if let Err(error) = sandbox.forget(&self.parts.database).known().await {
            warn!(sandbox.id = %sandbox.id, %error, "sandbox is not forgotten yet");
        }
    }
}

/// A cgroup that cannot be removed has a process in it that does not end.
fn unkillable(error: runtime::Error, sandbox: &str) -> Error {
    match &error {
        runtime::Error::System { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
            Reason::Unkillable { what: "sandbox", id: sandbox.to_owned() }.into()
        }
        _ => error.into(),
    }
}

/// Removes a directory with what is in it; none is as good.
pub(in crate::pod) fn remove_directory(directory: &Path) -> Result<(), Error> {
    tree::remove_at(directory).during("remove directory", directory)
}
