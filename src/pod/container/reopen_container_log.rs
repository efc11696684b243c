//! ReopenContainerLog.

use std::sync::Arc;

use crate::pod::{Pods, container::Container, error::Error};

impl Pods {
    /// Opens the log of a running container anew, after it was moved away.
    ///
    /// # Errors
    /// A container that does not run, or a log file that cannot be opened.
    pub async fn reopen_log(self: &Arc<Self>, container: &Container) -> Result<(), Error> {
        if !container.is_running() {
            return Err(container.wrong_state("reopening its log", ""));
        }
        let sandbox = self.sandbox_of(container)?;
        let monitor = sandbox.ready_monitor("reopening a log").await?;
        let call = monitor.reopen_log(container.id.as_str());
        self.ask(&sandbox, "reopening a log", call).await
    }
}
