//! RemovePodSandbox.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use crate::{
    crash,
    pod::{
        Pods,
        error::{Error, Reason},
        happening::Happening,
        sandbox::Sandbox,
        stage,
    },
    telemetry::Operation,
};

/// How long the disk may take to store that something is gone, before the answer says so
/// without it: it is stored when the disk takes it.
pub(in crate::pod) const STORE_LIMIT: Duration = Duration::from_secs(10);

/// How long the network of a removed sandbox is tried to be taken down; after that it is the
/// next start's business.
const NETWORK_LIMIT: Duration = Duration::from_secs(60 * 60);

impl Pods {
    /// Removes a sandbox with its containers, by force. A call while another one is under way
    /// joins it.
    ///
    /// # Errors
    /// When a process does not end, or a file cannot be removed; a repeat tries the rest
    /// again.
    pub async fn remove_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let task = {
            let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
            move || async move {
                let operation = pods.on_sandbox("RemovePodSandbox", &sandbox);
                let outcome = pods.remove_sandbox_anew(&sandbox, &operation).await;
                stage::ended(operation, outcome)
            }
        };
        self.sandbox_removals.run(sandbox.id.clone(), task).await
    }

    async fn remove_sandbox_anew(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        operation: &Operation,
    ) -> Result<(), Error> {
        operation.stage("stopping it");
        match self.stop_sandbox(sandbox).await {
            // The processes are gone. A network that cannot be given back must not keep the
            // pod: what was set up is recorded with the network, and is taken down later.
            Err(error) if matches!(error.reason(), Reason::Network(_)) => {
                warn!(sandbox.id = %sandbox.id, error = %crate::kind::chain(&error),
                    "the sandbox is removed before its network; that is taken down later");
                self.leave_network_later(sandbox);
            }
            result => result?,
        }
        crash::point("remove sandbox: stopped");
        operation.stage("removing its containers");
        for container in self.containers_of(sandbox) {
            operation.moves();
            self.remove_container(&container).await?;
        }
        crash::point("remove sandbox: containers are removed");
        operation.stage("storing that it is gone");
        self.objects().remove_sandbox(sandbox);
        sandbox.happened(Happening::Deleted);
        self.store_soon(sandbox.forget(&self.parts.database), &sandbox.id).await;
        crash::point("remove sandbox: forgotten");
        info!(sandbox.id = %sandbox.id, "sandbox is removed");
        Ok(())
    }

    /// Waits a while for a deletion to be stored.
    pub(in crate::pod) async fn store_soon(
        &self,
        outcome: crate::store::Outcome,
        id: &impl std::fmt::Display,
    ) {
        match tokio::time::timeout(STORE_LIMIT, outcome.known()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%id, error = %crate::kind::chain(&error), "the removal is stored later");
            }
            Err(_) => warn!(%id, "the disk does not answer; the removal is stored later"),
        }
    }

    /// Tries until the network of a removed sandbox is taken down.
    fn leave_network_later(self: &Arc<Self>, sandbox: &Sandbox) {
        let Some(request) = sandbox.record().network.clone() else { return };
        let (pods, id) = (Arc::clone(self), sandbox.id.clone());
        tokio::spawn(async move {
            let mut pause = Duration::from_secs(1);
            let end = Instant::now() + NETWORK_LIMIT;
            while pods.parts.network.teardown(&request, None).await.is_err() {
                if Instant::now() > end {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(60));
            }
            info!(sandbox.id = %id, "the network of the removed sandbox is taken down");
        });
    }
}
