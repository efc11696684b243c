//! StopPodSandbox.

use std::{fs, io, sync::Arc};

use tracing::info;

use crate::pod::{
    Pods,
    error::{During, Error},
    sandbox::{Sandbox, SandboxPhase},
};

impl Pods {
    /// Ends every process of a sandbox and gives its network back. What is stopped already
    /// stays as it is.
    ///
    /// # Errors
    /// When a step fails; a repeat tries the rest again.
    pub async fn stop_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        // A task of its own: a caller that gives up must not leave it half stopped.
        crate::pod::own(async move {
            let _guard = sandbox.operation.lock().await;
            pods.stop_locked(&sandbox).await
        })
        .await
    }

    /// For a caller that holds the sandbox's operation.
    pub(in crate::pod) async fn stop_locked(&self, sandbox: &Sandbox) -> Result<(), Error> {
        if sandbox.record().phase == SandboxPhase::NotReady {
            return Ok(());
        }
        let containers = self.containers_of(sandbox);
        // All at once: one that is slow to end holds up none of the others.
        let ends = containers.iter().map(|container| self.kill_and_wait(sandbox, container));
        futures_util::future::join_all(ends).await.into_iter().collect::<Result<(), _>>()?;
        self.dismantle(sandbox).await?;
        sandbox.ended(&self.parts.database);
        info!(sandbox.id = %sandbox.id, "sandbox is stopped");
        Ok(())
    }

    /// Takes away everything of a sandbox but its record: network, processes, mounts, cgroup,
    /// files. May be repeated, and for a sandbox that was never whole.
    pub(in crate::pod) async fn dismantle(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let record = sandbox.record().clone();
        if let Some(request) = &record.network {
            let netns = record.netns.as_deref().filter(|path| path.exists());
            self.parts.network.teardown(request, netns).await?;
        }
        if let Some(monitor) = sandbox.monitor() {
            match monitor.shut_down().await {
                // What it could not take away is taken below.
                Ok(()) | Err(crate::monitor::client::Error::Gone) => {}
                Err(error) => return Err(error.into()),
            }
            sandbox.set_monitor(None);
        }
        record.traces().remove()?;
        let directory = self.sandbox_directory(&sandbox.id);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).during("remove directory", &directory)
            }
            _ => Ok(()),
        }
    }
}
