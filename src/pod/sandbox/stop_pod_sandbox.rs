//! StopPodSandbox.

use std::sync::Arc;

use tracing::info;

use crate::pod::{
    Pods,
    error::Error,
    sandbox::{Sandbox, SandboxPhase},
    stage,
};

impl Pods {
    /// Ends every process of a sandbox and gives its network back. What is stopped already
    /// stays as it is. A call while another one is under way joins it.
    ///
    /// # Errors
    /// The first step that failed; a repeat tries the rest again, and so does the daemon.
    pub async fn stop_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let task = {
            let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
            move || async move { pods.stop_anew(&sandbox).await }
        };
        self.stops.run(sandbox.id.clone(), task).await
    }

    async fn stop_anew(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        {
            let record = sandbox.record();
            if record.phase == SandboxPhase::NotReady && record.dismantled {
                return Ok(());
            }
        }
        let operation = self.on_sandbox("StopPodSandbox", sandbox);
        let outcome = self.dismantle(sandbox, &operation).await;
        if let Err(error) = stage::ended(operation, outcome) {
            self.dismantle_later(sandbox);
            return Err(error);
        }
        info!(sandbox.id = %sandbox.id, "sandbox is stopped");
        Ok(())
    }
}
