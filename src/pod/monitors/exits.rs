//! What monitors tell: exits of containers, and their own end.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use crate::{
    monitor::{client::Event, record::ExitRecord, v1},
    pod::{
        Pods,
        sandbox::{Sandbox, SandboxPhase},
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
                Event::ContainerExited(exit) => pods.container_exited(&exit),
                Event::PodInitExited => pods.pod_init_exited(&sandbox),
                Event::CallsRefused(refused) => pods.calls_refused(&refused),
                Event::Gone => return pods.monitor_gone(&sandbox),
            }
        }
    });
}

fn both(pods: &Weak<Pods>, sandbox: &Weak<Sandbox>) -> Option<(Arc<Pods>, Arc<Sandbox>)> {
    Some((pods.upgrade()?, sandbox.upgrade()?))
}

impl Pods {
    fn container_exited(&self, exit: &v1::ContainerExited) {
        let Ok(container) = self.container(&exit.container) else { return };
        container.ended_with(&self.parts.database, &ExitRecord::from(exit));
    }

    /// A pod whose PID namespace has lost its init can run nothing any more, and all that ran
    /// in it has ended: it is as if it had been stopped.
    pub(super) fn pod_init_exited(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        if sandbox.ending.is_cancelled() {
            return;
        }
        warn!(sandbox.id = %sandbox.id, "the first process of the pod's PID namespace has ended");
        if sandbox.record().phase == SandboxPhase::Creating {
            // Who makes it finds out, and undoes it.
            return sandbox.ending.cancel();
        }
        self.dismantle_later(sandbox);
    }

    /// The connection to a monitor is closed. One that takes none of its messages is closed by
    /// the monitor, which lives on; one that has ended takes its pod with it.
    fn monitor_gone(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        // The expected end, or that of a connection which was replaced by another.
        if sandbox.ending.is_cancelled() || sandbox.monitor().is_none_or(|m| !m.is_gone()) {
            return;
        }
        sandbox.drop_monitor();
        self.take_up(sandbox);
    }
}
