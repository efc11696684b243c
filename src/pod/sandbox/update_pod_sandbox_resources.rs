//! UpdatePodSandboxResources.

use std::{path::Path, sync::Arc, time::Duration};

use oci_spec::runtime::LinuxResources;
use tokio::time::timeout;

use crate::{
    pod::{
        Pods, blocking,
        error::Error,
        sandbox::{Sandbox, SandboxPhase},
        stage,
    },
    runtime::cgroup::{Cgroup, Version},
    spec::{config::Resources, resources},
    telemetry::Operation,
};

/// How long the disk is waited for.
const LIMIT: Duration = Duration::from_secs(10);

impl Pods {
    /// Takes over what a pod needs now; what is not named stays. A cgroup that is Criquet's own
    /// gets the limits, all of them or none; that of a kubelet has them from the kubelet.
    ///
    /// # Errors
    /// Numbers that no kernel takes, and those that this one refuses; nothing is changed then.
    pub async fn update_sandbox(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        overhead: Option<Resources>,
        needs: Option<Resources>,
    ) -> Result<(), Error> {
        for given in [&overhead, &needs].into_iter().flatten() {
            resources::build(given)?;
        }
        let operation = self.on_sandbox("UpdatePodSandboxResources", sandbox);
        let outcome = self.update_sandbox_anew(sandbox, overhead, needs, &operation).await;
        stage::ended(operation, outcome)
    }

    async fn update_sandbox_anew(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        overhead: Option<Resources>,
        needs: Option<Resources>,
        operation: &Operation,
    ) -> Result<(), Error> {
        operation.stage("waiting for another update");
        let _guard = sandbox.limits.lock().await;
        let (limits, cgroup, scope) = {
            let record = sandbox.record();
            let config = &record.config;
            let overhead = overhead.as_ref().or(config.overhead.as_ref());
            let needs = needs.as_ref().or(config.resources.as_ref());
            let has_own = record.limits_cgroup() && record.phase == SandboxPhase::Ready;
            let cgroup = has_own.then(|| record.cgroup.clone());
            (resources::of_pod(overhead, needs)?, cgroup, record.scope())
        };
        if let Some(cgroup) = cgroup {
            operation.stage("changing its cgroup");
            let (version, ending) = (self.parts.cgroups, sandbox.ending.clone());
            let limits = blocking::own_files(move || {
                apply(version, &cgroup, &limits, || ending.is_cancelled()).map(|()| limits)
            })
            .await?;
            if let Some(scope) = scope {
                self.tell_limits(&scope, &limits).await;
            }
            self.limits_changed(sandbox.id.as_str());
        }
        operation.stage("storing its limits");
        let stored = sandbox.observe(&self.parts.database, |record| {
            record.config.overhead = overhead.or(record.config.overhead.take());
            record.config.resources = needs.or(record.config.resources.take());
        });
        if let Some(stored) = stored {
            stored.later();
        }
        // It is so whether or not the disk takes it by then.
        let _ = timeout(LIMIT, self.parts.database.settled()).await;
        Ok(())
    }
}

/// Sets limits. The cgroup of a pod is made with its first container, or here.
fn apply(
    version: Version,
    path: &Path,
    limits: &LinuxResources,
    is_ending: impl Fn() -> bool,
) -> Result<(), Error> {
    // One that is there is taken over.
    let cgroup = Cgroup::create(version, path, None)?;
    let applied = cgroup.apply(limits);
    if is_ending() {
        // Whoever takes the pod apart may have been here before; one with containers stays.
        let _ = cgroup.remove();
    }
    Ok(applied?)
}
