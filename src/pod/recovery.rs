//! What a daemon does with the pods of the one before it.
//!
//! The database says what exists and the monitors say what runs. A sandbox whose boot is not
//! this one runs no more. One that was being made is undone. Of one that was ready, the
//! monitor is asked; without it, the pod is ended. Directories and holds of images that belong
//! to no record are what a creation left that never came to be, and go.

use std::{
    collections::BTreeSet,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    CONTAINERS, Pods, SANDBOXES,
    container::{Container, ContainerPhase, ContainerRecord},
    error::{During, Error},
    id::{ContainerId, SandboxId},
    monitors::exits,
    sandbox::{Sandbox, SandboxPhase, SandboxRecord},
};
use crate::monitor::{client::Monitor, record::ExitRecord, v1};

impl Pods {
    pub(super) async fn recover(self: &Arc<Self>) -> Result<(), Error> {
        self.load()?;
        for sandbox in self.sandboxes() {
            // One pod that cannot be recovered must not keep the daemon from the others.
            if let Err(error) = self.recover_sandbox(&sandbox).await {
                warn!(sandbox.id = %sandbox.id, %error, "sandbox is not recovered");
            }
        }
        self.sweep()?;
        let live: Vec<String> =
            self.sandboxes().iter().map(|sandbox| sandbox.id.to_string()).collect();
        if let Err(error) = self.parts.network.collect_garbage(&live).await {
            warn!(%error, "remains of networks are not collected");
        }
        info!(sandboxes = live.len(), containers = self.containers().len(), "state is recovered");
        Ok(())
    }

    fn load(&self) -> Result<(), Error> {
        let sandboxes = self.parts.database.list::<SandboxRecord>(SANDBOXES)?;
        let containers = self.parts.database.list::<ContainerRecord>(CONTAINERS)?;
        let mut objects = self.objects();
        for (id, record) in sandboxes {
            let id = SandboxId::from(id);
            objects.sandboxes.insert(id.clone(), Sandbox::new(id, record));
        }
        for (id, record) in containers {
            let id = ContainerId::from(id);
            objects.containers.insert(id.clone(), Container::new(id, record));
        }
        Ok(())
    }

    async fn recover_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let (phase, same_boot) = {
            let record = sandbox.record();
            (record.phase, record.boot_id == self.boot_id)
        };
        match phase {
            SandboxPhase::NotReady => Ok(()),
            SandboxPhase::Creating => {
                info!(sandbox.id = %sandbox.id, "undoing a sandbox that was not finished");
                self.connect(sandbox, same_boot);
                self.objects().sandboxes.remove(&sandbox.id);
                self.undo_sandbox(sandbox).await;
                Ok(())
            }
            SandboxPhase::Ready if !same_boot => self.end_after_reboot(sandbox).await,
            SandboxPhase::Ready => match self.connect(sandbox, true) {
                Some(monitor) => self.reconcile(sandbox, &monitor).await,
                None => {
                    warn!(sandbox.id = %sandbox.id, "the pod's monitor is gone; ending the pod");
                    self.end_orphaned(sandbox).await
                }
            },
        }
    }

    pub(super) fn connect(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        same_boot: bool,
    ) -> Option<Monitor> {
        if !same_boot {
            return None;
        }
        let (events, receiver) = mpsc::unbounded_channel();
        let monitor = Monitor::connect(&self.socket_of(&sandbox.id), events).ok()?;
        sandbox.set_monitor(Some(monitor.clone()));
        exits::watch(self, sandbox, receiver);
        Some(monitor)
    }

    async fn end_after_reboot(&self, sandbox: &Sandbox) -> Result<(), Error> {
        for container in self.containers_of(sandbox) {
            if container.is_running() {
                self.record_unknown(&container, "the node was restarted");
            }
        }
        self.dismantle(sandbox).await?;
        sandbox.ended(&self.parts.database);
        Ok(())
    }

    /// Takes over what happened while no daemon was there.
    pub(super) async fn reconcile(
        &self,
        sandbox: &Arc<Sandbox>,
        monitor: &Monitor,
    ) -> Result<(), Error> {
        let states = settled(monitor).await?;
        for container in self.containers_of(sandbox) {
            let state = states.iter().find(|state| state.container == container.id.as_str());
            self.reconcile_container(sandbox, &container, state);
        }
        // What the monitor has and the database does not was removed but for this last step.
        for state in &states {
            if self.container(&state.container).is_err() {
                monitor.stop(&state.container, libc::SIGKILL, 0).await?;
                if state.exited.is_some() {
                    monitor.delete(&state.container).await?;
                }
            }
        }
        Ok(())
    }

    fn reconcile_container(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        state: Option<&v1::ContainerState>,
    ) {
        let phase = container.record().phase.clone();
        match (phase, state) {
            (ContainerPhase::Exited { .. }, _) | (ContainerPhase::Created, None) => {}
            (ContainerPhase::Running { .. }, None) => {
                let directory = self.sandbox_directory(&sandbox.id);
                match ExitRecord::read(&directory, container.id.as_str()) {
                    Some(exit) => self.record_exit(container, &exit),
                    None => self.record_unknown(container, "its monitor does not know it"),
                }
            }
            (_, Some(state)) => {
                if state.started_at != 0 {
                    let (pid, started_at) = (state.pid, state.started_at);
                    let phase = ContainerPhase::Running { pid, started_at };
                    container.observe(&self.parts.database, phase);
                }
                if let Some(exit) = &state.exited {
                    let exit = ExitRecord {
                        exit_code: exit.exit_code,
                        finished_at: exit.finished_at,
                        oom_killed: exit.oom_killed,
                    };
                    self.record_exit(container, &exit);
                }
            }
        }
    }

    /// Removes what no record speaks of.
    fn sweep(&self) -> Result<(), Error> {
        let known: BTreeSet<String> =
            self.containers().iter().map(|container| container.id.to_string()).collect();
        for name in ["containers", "work"] {
            let directory = self.options.root.join(name);
            for entry in fs::read_dir(&directory).during("read", &directory)?.flatten() {
                let name = entry.file_name();
                if let Some(name) = name.to_str().filter(|name| !known.contains(*name)) {
                    self.throw_away(&ContainerId::from(name.to_owned()))?;
                }
            }
        }
        let directory = self.options.state.join("bundles");
        for entry in fs::read_dir(&directory).during("read", &directory)?.flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|name| !known.contains(*name)) {
                self.remove_bundle(&ContainerId::from(name.to_owned()))?;
            }
        }
        for holder in self.parts.images.holders() {
            if !known.contains(&holder) {
                self.parts.images.release(&holder)?;
            }
        }
        let trash = self.options.root.join("trash");
        let old: Vec<_> = fs::read_dir(&trash).during("read", &trash)?.flatten().collect();
        tokio::task::spawn_blocking(move || {
            for entry in old {
                if let Err(error) = fs::remove_dir_all(entry.path()) {
                    warn!(path = %entry.path().display(), %error, "cannot remove old files");
                }
            }
        });
        Ok(())
    }
}

/// What a monitor has, once none of its containers is on the way to its program any longer:
/// the answer to that start went to a daemon that is no more, so one that takes too long is
/// ended, as its caller will start another.
async fn settled(monitor: &Monitor) -> Result<Vec<v1::ContainerState>, Error> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let end = Instant::now() + PATIENCE;
    loop {
        let states = monitor.state().await?.containers;
        let starting =
            states.iter().filter(|state| state.started_at == 0 && state.exited.is_none());
        let starting: Vec<_> = starting.map(|state| state.container.clone()).collect();
        if starting.is_empty() || Instant::now() > end + PATIENCE {
            return Ok(states);
        }
        if Instant::now() > end {
            for container in starting {
                monitor.stop(&container, libc::SIGKILL, 0).await?;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
