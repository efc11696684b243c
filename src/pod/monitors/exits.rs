//! What monitors tell: exits of containers, and their own end.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{info, warn};

use crate::{
    monitor::{client::Event, record::ExitRecord},
    pod::{
        Pods,
        container::{Container, ContainerPhase},
        error::Error,
        sandbox::{Sandbox, SandboxPhase},
        time::now,
    },
};

/// The reason of a container of which nobody knows how it ended.
pub(in crate::pod) const UNKNOWN: &str = "ContainerStatusUnknown";

/// Follows the monitor of a sandbox until it is gone.
pub(in crate::pod) fn watch(
    pods: &Arc<Pods>,
    sandbox: &Arc<Sandbox>,
    mut events: UnboundedReceiver<Event>,
) {
    let (pods, sandbox) = (Arc::downgrade(pods), Arc::downgrade(sandbox));
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let Some((pods, sandbox)) = both(&pods, &sandbox) else { return };
            match event {
                Event::ContainerExited(exit) => pods.container_exited(&exit).await,
                Event::Gone => return pods.monitor_gone(&sandbox).await,
            }
        }
    });
}

fn both(pods: &Weak<Pods>, sandbox: &Weak<Sandbox>) -> Option<(Arc<Pods>, Arc<Sandbox>)> {
    Some((pods.upgrade()?, sandbox.upgrade()?))
}

impl Pods {
    async fn container_exited(&self, exit: &crate::monitor::v1::ContainerExited) {
        let Ok(container) = self.container(&exit.container) else { return };
        // Its start is recorded first.
        let _starting = container.starting.lock().await;
        let record = ExitRecord {
            exit_code: exit.exit_code,
            finished_at: exit.finished_at,
            oom_killed: exit.oom_killed,
        };
        self.record_exit(&container, &record);
    }

    /// Records how a container ended, unless that is known already.
    pub(in crate::pod) fn record_exit(&self, container: &Container, exit: &ExitRecord) {
        let phase = container.record().phase.clone();
        let started_at = match phase {
            ContainerPhase::Exited { .. } => return,
            ContainerPhase::Created => 0,
            ContainerPhase::Running { started_at, .. } => started_at,
        };
        let reason = match exit {
            ExitRecord { oom_killed: true, exit_code: 1.., .. } => "OOMKilled",
            ExitRecord { exit_code: 0, .. } => "Completed",
            _ => "Error",
        };
        self.end(container, started_at, exit, reason, String::new());
    }

    pub(in crate::pod) fn record_unknown(&self, container: &Container, message: &str) {
        let exit = ExitRecord { exit_code: 255, finished_at: now(), oom_killed: false };
        let started_at = match container.record().phase {
            ContainerPhase::Running { started_at, .. } => started_at,
            _ => 0,
        };
        self.end(container, started_at, &exit, UNKNOWN, message.to_owned());
    }

    pub(in crate::pod) fn end(
        &self,
        container: &Container,
        started_at: i64,
        exit: &ExitRecord,
        reason: &str,
        message: String,
    ) {
        let exit_code = exit.exit_code;
        info!(container.id = %container.id, exit_code, reason, "container has ended");
        let phase = ContainerPhase::Exited {
            started_at,
            finished_at: exit.finished_at,
            exit_code,
            reason: reason.to_owned(),
            message,
        };
        container.observe(&self.parts.database, phase);
    }

    /// A monitor that ends by itself takes its pod with it: nobody else reaps the processes,
    /// reads their output or knows their cgroups.
    async fn monitor_gone(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let _guard = sandbox.operation.lock().await;
        // The expected end, or another daemon's view of one that was connected to anew.
        if sandbox.record().phase != SandboxPhase::Ready || sandbox.monitor().is_none() {
            return;
        }
        sandbox.set_monitor(None);
        // It closes a connection that takes none of its messages, and lives on.
        if let Some(monitor) = self.connect(sandbox, true) {
            info!(sandbox.id = %sandbox.id, "connected to the pod's monitor anew");
            if let Err(error) = self.reconcile(sandbox, &monitor).await {
                warn!(sandbox.id = %sandbox.id, %error, "sandbox is not reconciled");
            }
            return;
        }
        warn!(sandbox.id = %sandbox.id, "the pod's monitor is gone; ending the pod");
        if let Err(error) = self.end_orphaned(sandbox).await {
            warn!(sandbox.id = %sandbox.id, %error, "the pod is not ended yet");
        }
    }

    /// Ends a pod whose monitor is gone.
    pub(in crate::pod) async fn end_orphaned(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let directory = self.sandbox_directory(&sandbox.id);
        for container in self.containers_of(sandbox) {
            self.remove_cgroup(&container).await?;
            if matches!(container.record().phase, ContainerPhase::Running { .. }) {
                match ExitRecord::read(&directory, container.id.as_str()) {
                    Some(exit) => self.record_exit(&container, &exit),
                    None => self.record_unknown(&container, "the monitor of its pod was gone"),
                }
            }
        }
        self.dismantle(sandbox).await?;
        sandbox.ended(&self.parts.database);
        Ok(())
    }

    /// Ends what is left in a container's cgroup and removes it, without a monitor.
    pub(in crate::pod) async fn remove_cgroup(&self, container: &Container) -> Result<(), Error> {
        let path = container.record().cgroup.clone();
        let Ok(cgroup) = crate::runtime::cgroup::Cgroup::open(self.parts.cgroups, &path) else {
            return Ok(());
        };
        for _ in 0..500 {
            if cgroup.is_empty() {
                break;
            }
            cgroup.kill()?;
            // Those whose parent is gone are reaped by the init of the machine.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Ok(cgroup.remove()?)
    }
}
