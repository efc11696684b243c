//! RemovePodSandbox.

use std::sync::Arc;

use tracing::info;

use crate::pod::{Pods, SANDBOXES, error::Error, sandbox::Sandbox};

impl Pods {
    /// Removes a sandbox with its containers, by force.
    ///
    /// # Errors
    /// When a step fails; a repeat tries the rest again.
    pub async fn remove_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        crate::pod::own(async move {
            let _guard = sandbox.operation.lock().await;
            pods.stop_locked(&sandbox).await?;
            for container in pods.containers_of(&sandbox) {
                pods.remove_container(&container).await?;
            }
            pods.parts.database.delete(SANDBOXES, sandbox.id.as_str())?;
            pods.objects().sandboxes.remove(&sandbox.id);
            info!(sandbox.id = %sandbox.id, "sandbox is removed");
            Ok(())
        })
        .await
    }
}
