//! UpdateContainerResources.

use std::{fs, sync::Arc, time::Duration};

use oci_spec::runtime::{LinuxResources, Spec};
use tokio::time::timeout;

use crate::{
    pod::{
        Pods, blocking,
        container::{Container, ContainerPhase},
        error::{During, Error},
        id::ContainerId,
        stage,
    },
    spec::{config::Resources, resources},
    telemetry::Operation,
};

/// How long a start, and then the disk, is waited for.
const LIMIT: Duration = Duration::from_secs(10);

impl Pods {
    /// Changes the limits that `update` names: all of them or none. Of a container that has
    /// ended they are kept, and nothing else is done.
    ///
    /// # Errors
    /// Numbers that no kernel takes; a value that this one refuses.
    pub async fn update_container(
        self: &Arc<Self>,
        container: &Container,
        update: &Resources,
    ) -> Result<(), Error> {
        let operation = self.on_container("UpdateContainerResources", container);
        let outcome = self.update_anew(container, update, &operation).await;
        stage::ended(operation, outcome)
    }

    async fn update_anew(
        self: &Arc<Self>,
        container: &Container,
        update: &Resources,
        operation: &Operation,
    ) -> Result<(), Error> {
        operation.stage("waiting for another update");
        let _guard = container.limits.lock().await;
        operation.stage("waiting for its start");
        // What is on its way has its bundle already.
        let _ = timeout(LIMIT, container.started()).await;
        let old = container.record().config.resources.clone().unwrap_or_default();
        let merged = resources::merge(&old, update);
        let limits = resources::build(&merged)?;
        let phase = container.record().phase.clone();
        match phase {
            ContainerPhase::Exited { .. } => {}
            ContainerPhase::Created => {
                operation.stage("writing its files");
                let (pods, id) = (Arc::clone(self), container.id.clone());
                let rewrite = move || pods.rewrite_limits(&id, &limits);
                container.set_spec(Some(blocking::own_files(rewrite).await?));
            }
            ContainerPhase::Running { .. } => {
                operation.stage("waiting for the pod");
                let sandbox = self.sandbox_of(container)?;
                let monitor = sandbox.ready_monitor("changing resources").await?;
                operation.stage("changing its cgroup");
                let call = monitor.update(container.id.as_str(), &limits);
                self.ask(&sandbox, "changing resources", call).await?;
                self.limits_changed(container.id.as_str());
            }
        }
        operation.stage("storing its limits");
        container.observe(&self.parts.database, |record| {
            record.config.change(|config| config.resources = Some(merged));
            true
        });
        let _ = timeout(LIMIT, self.parts.database.settled()).await;
        Ok(())
    }

    /// The limits of a container that is not started yet are those of its bundle.
    fn rewrite_limits(
        &self,
        id: &ContainerId,
        limits: &LinuxResources,
    ) -> Result<Arc<Spec>, Error> {
        let mut bundle = self.read_bundle(id)?;
        if let Some(linux) = bundle.spec.linux_mut() {
            let old = linux.resources().clone().unwrap_or_default();
            let mut limits = limits.clone();
            // They are not the kubelet's to change.
            limits.set_devices(old.devices().clone());
            limits.set_block_io(old.block_io().clone());
            linux.set_resources(Some(limits));
        }
        let path = self.bundle_file(id);
        let temporary = path.with_extension("new");
        serde_json::to_vec(&bundle)
            .map_err(std::io::Error::from)
            .and_then(|json| fs::write(&temporary, json))
            .and_then(|()| fs::rename(&temporary, &path))
            .during("write", &path)?;
        Ok(Arc::new(bundle.spec))
    }
}
