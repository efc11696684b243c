//! StopContainer.

use std::{sync::Arc, time::Duration};

use super::{
    Pods,
    container::Container,
    error::{Error, Reason},
    sandbox::Sandbox,
};

/// How long the kernel gets to end processes after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(60);

impl Pods {
    /// Sends the stop signal and, `timeout` seconds later, SIGKILL; returns when the container
    /// has ended. A second call can shorten the time of the first.
    ///
    /// # Errors
    /// When the kernel does not end its processes.
    pub async fn stop_container(&self, container: &Container, timeout: i64) -> Result<(), Error> {
        let sandbox = self.sandbox_of(container)?;
        // Neither lock of the container is taken: a long stop holds up nothing else, and a
        // start that is under way is told of the end as of any other.
        self.stop_within(&sandbox, container, timeout.max(0) as u64).await
    }

    /// Ends a container at once.
    pub(super) async fn kill_and_wait(
        &self,
        sandbox: &Sandbox,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        // One that is on its way to its program is killed when it runs.
        drop(container.starting.lock().await);
        self.stop_within(sandbox, container, 0).await
    }

    async fn stop_within(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        seconds: u64,
    ) -> Result<(), Error> {
        if !container.is_running() {
            return Ok(());
        }
        let Some(monitor) = sandbox.monitor() else { return Ok(()) };
        let signal = container.record().stop_signal;
        let milliseconds = seconds.saturating_mul(1000);
        monitor.stop(container.id.as_str(), signal, milliseconds).await?;
        let limit = Duration::from_millis(milliseconds).saturating_add(AFTER_KILL);
        tokio::time::timeout(limit, container.ended())
            .await
            .map_err(|_| Reason::Unkillable(container.id.to_string()).into())
    }
}
