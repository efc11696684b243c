//! Hooks of a container's spec: what they find of it, and those that are run when it is gone.

use std::{fs, os::unix::fs::DirBuilderExt, sync::Arc};

use oci_spec::runtime::Spec;
use tracing::warn;

use crate::{
    kind::chain,
    pod::{
        Pods, blocking,
        container::{Container, ContainerPhase},
        error::{During, Error},
        id::ContainerId,
    },
    runtime::{bundle::HookContext, hooks},
};

/// Whether a spec has hooks for when its container is gone.
pub(in crate::pod) fn are_last(spec: &Spec) -> bool {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    hooks.is_some_and(|hooks| !hooks.is_empty())
}

impl Pods {
    /// Writes the spec for hooks to read, where there are any.
    ///
    /// # Errors
    /// What the disk refuses.
    pub(in crate::pod) fn prepare_hooks(
        &self,
        id: &ContainerId,
        spec: &Spec,
    ) -> Result<Option<HookContext>, Error> {
        if spec.hooks().is_none() {
            return Ok(None);
        }
        let directory = self.hooks_directory(id);
        let made = fs::DirBuilder::new().mode(0o700).create(&directory);
        made.during("create directory", &directory)?;
        let mut spec = spec.clone();
        let mut root = spec.root().clone().unwrap_or_default();
        // Where a hook in the container's mount namespace finds it.
        root.set_path(self.options.mount_point());
        spec.set_root(Some(root));
        let file = directory.join("config.json");
        let json = serde_json::to_vec(&spec).map_err(std::io::Error::from);
        json.and_then(|json| fs::write(&file, json)).during("write", &file)?;
        Ok(Some(HookContext { id: id.to_string(), directory }))
    }

    /// Runs the hooks for when a container is gone. One that fails is told, and keeps nothing
    /// from being removed.
    pub(in crate::pod) async fn run_last_hooks(self: &Arc<Self>, container: &Container) {
        let was_started = container.record().phase != ContainerPhase::Created;
        if !container.record().has_last_hooks || !was_started {
            return;
        }
        let (pods, id) = (Arc::clone(self), container.id.clone());
        let run = blocking::own_files(move || {
            let bundle = pods.read_bundle(&id)?;
            for error in hooks::stopped(&bundle).err().into_iter().flatten() {
                warn!(container.id = %id, error = %chain(&error), "a hook has failed");
            }
            Ok(())
        });
        if let Err(error) = run.await {
            // After a reboot nothing of the container is left that they could look after.
            warn!(container.id = %container.id, error = %chain(&error), "its hooks are not run");
        }
    }
}
