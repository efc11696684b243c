//! StopContainer.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::timeout;
use tracing::warn;

use crate::{
    monitor::{
        client::{self, Monitor},
        record::ExitRecord,
    },
    pod::{
        Pods, blocking,
        container::Container,
        error::{Error, Reason},
        monitors::exits::UNKNOWN,
        sandbox::Sandbox,
        stage,
        time::now,
    },
    runtime::{self, cgroup::Cgroup},
    telemetry::Operation,
};

/// How long the kernel gets to end processes after SIGKILL, and the monitor to tell it.
const AFTER_KILL: Duration = Duration::from_secs(4);

/// How long a stop waits for a pod that is being taken up.
const TAKE_UP: Duration = Duration::from_secs(5);

/// How long a container that is to be ended at once may be on the way to its program.
const MOMENT: Duration = Duration::from_millis(200);

/// How long a monitor may take to answer that it stops a container.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// 128 + SIGKILL: what a shell says of a process that was killed.
const KILLED: i32 = 137;

impl Pods {
    /// Sends the stop signal and, `timeout` seconds later, SIGKILL; returns when the container
    /// has ended. A second call can shorten the time of the first.
    ///
    /// # Errors
    /// When the kernel does not end its processes.
    pub async fn stop_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        timeout: i64,
    ) -> Result<(), Error> {
        // A container without a sandbox has nothing that runs.
        let Ok(sandbox) = self.sandbox_of(container) else { return Ok(()) };
        let (pods, container) = (Arc::clone(self), Arc::clone(container));
        let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
        // No lock of the container is held: a long stop holds up nothing else.
        crate::pod::own(async move {
            let operation = pods.on_container("StopContainer", &container);
            operation.stage("waiting for the pod");
            // Right after a restart it is not known yet what runs, and whom to tell.
            sandbox.taken_up(TAKE_UP).await;
            let outcome = pods.end_container(&sandbox, &container, grace, &operation).await;
            stage::ended(operation, outcome)
        })
        .await
    }

    /// Ends a container at once.
    pub(in crate::pod) async fn end_at_once(
        &self,
        sandbox: &Sandbox,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        let operation = self.on_container("EndContainer", container);
        let outcome = self.end_container(sandbox, container, Duration::ZERO, &operation).await;
        stage::ended(operation, outcome)
    }

    async fn end_container(
        &self,
        sandbox: &Sandbox,
        container: &Arc<Container>,
        grace: Duration,
        operation: &Operation,
    ) -> Result<(), Error> {
        operation.stage_of("waiting for its start", grace);
        // The answer to its start is all that is missing, most of the time.
        let _ = timeout(grace.max(MOMENT), container.started()).await;
        if container.is_settled() {
            return Ok(());
        }
        operation.stage_of("waiting for its end", grace.saturating_add(AFTER_KILL));
        let asked = match sandbox.monitor() {
            Some(monitor) => self.ask_to_end(sandbox, &monitor, container, grace).await,
            None => Err(client::Error::Gone),
        };
        let limit = match asked {
            Ok(()) => grace.saturating_add(AFTER_KILL),
            Err(_) => Duration::ZERO,
        };
        let has_ended = timeout(limit, container.settled()).await.is_ok();
        if has_ended {
            return Ok(());
        }
        operation.stage("killing its cgroup");
        self.end_by_force(sandbox, container).await
    }

    /// Tells the monitor, which ends what is on the way to its program at once.
    async fn ask_to_end(
        &self,
        sandbox: &Sandbox,
        monitor: &Monitor,
        container: &Container,
        grace: Duration,
    ) -> Result<(), client::Error> {
        let (signal, grace) = match container.is_starting() {
            true => (libc::SIGKILL, Duration::ZERO),
            false => (container.record().stop_signal, grace),
        };
        let milliseconds = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let stopping = monitor.stop(container.id.as_str(), signal, milliseconds);
        // What is asked of a monitor that hangs is done by it when it goes on; until the end
        // of the grace period there is nothing that is better.
        let limit = match sandbox.trouble() {
            Some(_) if grace.is_zero() => MOMENT,
            _ => ANSWER_LIMIT.max(grace),
        };
        timeout(limit, stopping).await.unwrap_or_else(|_| {
            sandbox.is_silent("stopping a container", "no answer".to_owned());
            Err(client::Error::Gone)
        })
    }

    /// Ends a container without its monitor, which does not answer or has not ended it: every
    /// process in its cgroup is killed.
    async fn end_by_force(
        &self,
        sandbox: &Sandbox,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        warn!(container.id = %container.id, "the monitor has not ended it; its cgroup is killed");
        self.empty_cgroup(container).await?;
        // A monitor that lives tells how it ended; one that does not answer may do so later.
        if timeout(MOMENT, container.settled()).await.is_err() {
            self.settle(container, &self.sandbox_directory(&sandbox.id)).await;
        }
        Ok(())
    }

    /// Takes over the end of a container whose processes are gone: as its monitor recorded it,
    /// or else as one that was killed.
    pub(in crate::pod) async fn settle(&self, container: &Arc<Container>, directory: &Path) {
        let (directory, id) = (directory.to_owned(), container.id.clone());
        let read = move || Ok(ExitRecord::read(&directory, id.as_str()));
        let recorded = blocking::own_files(read).await.ok().flatten();
        let killed = || ExitRecord::new(KILLED, now());
        let exit = recorded.unwrap_or_else(killed);
        container.ended_with(&self.parts.database, &exit);
    }

    /// Takes over that a container has ended, and that nobody knows how.
    pub(in crate::pod) fn record_unknown(&self, container: &Container, message: &str) {
        let exit = ExitRecord::new(255, now());
        container.end_because(&self.parts.database, &exit, UNKNOWN, message.to_owned());
    }

    /// Kills what is in a container's cgroup until nothing is, without its monitor.
    pub(in crate::pod) async fn empty_cgroup(&self, container: &Container) -> Result<(), Error> {
        let Some(cgroup) = self.cgroup_of(container).await? else { return Ok(()) };
        let id = container.id.to_string();
        blocking::own_files(move || {
            let end = std::time::Instant::now() + AFTER_KILL;
            while !cgroup.is_empty()? {
                cgroup.kill()?;
                if std::time::Instant::now() > end {
                    return Err(Reason::Unkillable { what: "container", id }.into());
                }
                // Those whose parent is gone are reaped by the init of the machine.
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })
        .await
    }

    /// Ends what is left in a container's cgroup and removes it, without its monitor.
    pub(in crate::pod) async fn remove_cgroup(&self, container: &Container) -> Result<(), Error> {
        self.empty_cgroup(container).await?;
        let Some(cgroup) = self.cgroup_of(container).await? else { return Ok(()) };
        blocking::own_files(move || Ok(cgroup.remove()?)).await
    }

    async fn cgroup_of(&self, container: &Container) -> Result<Option<Cgroup>, Error> {
        let (version, path) = (self.parts.cgroups, container.record().cgroup.clone());
        blocking::own_files(move || match Cgroup::open(version, &path) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(runtime::Error::System { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        })
        .await
    }
}
