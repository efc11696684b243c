//! StopContainer.

use std::{sync::Arc, time::Duration};

use crate::pod::{
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
        // No lock of the container is kept: a long stop holds up nothing else.
        let seconds = timeout.max(0) as u64;
        self.started(&sandbox, container, Duration::from_secs(seconds)).await;
        self.stop_within(&sandbox, container, seconds).await
    }

    /// Ends a container at once.
    pub(in crate::pod) async fn kill_and_wait(
        &self,
        sandbox: &Sandbox,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        self.started(sandbox, container, Duration::ZERO).await;
        self.stop_within(sandbox, container, 0).await
    }

    /// Waits for one that is on its way to its program, and kills it there when that takes
    /// longer than `patience`: it can wait for a file system that never answers.
    async fn started(&self, sandbox: &Sandbox, container: &Container, patience: Duration) {
        const MOMENT: Duration = Duration::from_millis(200);
        let patience = patience.max(MOMENT);
        if tokio::time::timeout(patience, container.starting.lock()).await.is_ok() {
            return;
        }
        loop {
            if let Some(monitor) = sandbox.monitor() {
                // The answer to the start brings the result.
                let _ = monitor.stop(container.id.as_str(), libc::SIGKILL, 0).await;
            }
            if tokio::time::timeout(MOMENT, container.starting.lock()).await.is_ok() {
                return;
            }
        }
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
