//! ReopenContainerLog.

use std::sync::Arc;

use crate::{
    pod::{Pods, container::Container, error::Error, stage},
    telemetry::Operation,
};

impl Pods {
    /// Opens the log of a running container anew, after it was moved away.
    ///
    /// # Errors
    /// A container that does not run, or a log file that cannot be opened.
    pub async fn reopen_log(self: &Arc<Self>, container: &Container) -> Result<(), Error> {
        if !container.is_running() {
            return Err(container.wrong_state("reopening its log", ""));
        }
        let operation = self.on_container("ReopenContainerLog", container);
        let outcome = self.reopen_log_of(container, &operation).await;
        stage::ended(operation, outcome)
    }

    async fn reopen_log_of(
        self: &Arc<Self>,
        container: &Container,
        operation: &Operation,
    ) -> Result<(), Error> {
        operation.stage("waiting for the pod");
        let sandbox = self.sandbox_of(container)?;
        let monitor = sandbox.ready_monitor("reopening a log").await?;
        operation.stage("waiting for the monitor");
        let call = monitor.reopen_log(container.id.as_str());
        self.ask(&sandbox, "reopening a log", call).await
    }
}
