//! Removes what no record speaks of.

use std::sync::Arc;

use tracing::warn;

use super::load::Remains;
use crate::{
    kind::chain,
    pod::{Pods, blocking, error::Error},
    sys::tree,
};

impl Pods {
    /// What of it fails is told, and is found again by the next daemon.
    pub(super) async fn sweep(self: &Arc<Self>, remains: Remains) {
        for container in &remains.homeless {
            // Its sandbox is gone, and with it everything that ran.
            if let Err(error) = self.remove_homeless(container).await {
                warn!(container.id = %container.id, error = %chain(&error), "it is not removed");
            }
        }
        let pods = Arc::clone(self);
        let swept = blocking::own_files(move || pods.sweep_files(&remains.without_known())).await;
        if let Err(error) = swept {
            warn!(error = %chain(&error), "remains of containers are not swept away");
        }
        self.sweep_scopes().await;
        let live: Vec<String> =
            self.sandboxes().iter().map(|sandbox| sandbox.id.to_string()).collect();
        if let Err(error) = self.parts.network.collect_garbage(&live).await {
            warn!(error = %chain(&error), "remains of networks are not collected");
        }
    }

    async fn remove_homeless(
        self: &Arc<Self>,
        container: &crate::pod::Container,
    ) -> Result<(), Error> {
        self.remove_cgroup(container).await?;
        self.forget_container(container).await
    }

    fn sweep_files(&self, remains: &Remains) -> Result<(), Error> {
        let thrown_away = remains.directories.iter().try_for_each(|id| self.throw_away(id));
        let bundles = remains.bundles.iter().try_for_each(|id| self.remove_bundle(id));
        let released = remains.holders.iter().try_for_each(|holder| {
            let still_unknown = self.container(holder).is_err();
            if still_unknown {
                self.parts.images.release(holder).map_err(Error::from)
            } else {
                Ok(())
            }
        });
        for path in &remains.trash {
            if let Err(error) = tree::remove_at(path) {
                warn!(path = %path.display(), %error, "cannot remove old files");
            }
        }
        thrown_away.and(bundles).and(released)
    }
}
