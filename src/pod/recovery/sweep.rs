//! Removes what no record speaks of.

use std::{path::PathBuf, sync::Arc};

use tracing::warn;

use super::load::Remains;
use crate::{
    image::ImageStore,
    kind::chain,
    pod::{Container, Pods, blocking, error::Error},
    sys::tree,
};

impl Pods {
    /// What of it fails is told, and is found again by the next daemon.
    pub(super) async fn sweep(self: &Arc<Self>, remains: Remains) {
        let pods = Arc::clone(self);
        let swept = blocking::own_files(move || pods.sweep_files(&remains)).await;
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

    /// Removes containers whose sandbox is gone, and with it everything that ran.
    pub(super) async fn remove_homeless(self: &Arc<Self>, homeless: &[Arc<Container>]) {
        for container in homeless {
            let removed = async {
                self.remove_cgroup(container).await?;
                self.forget_container(container).await
            };
            if let Err(error) = removed.await {
                warn!(container.id = %container.id, error = %chain(&error), "it is not removed");
            }
        }
    }

    /// Removes what was thrown away, layers that nobody needs among it, and waits for that.
    pub(super) async fn take_out(self: &Arc<Self>, trash: Vec<PathBuf>) {
        let remove = move || {
            for path in &trash {
                if let Err(error) = tree::remove_at(path) {
                    warn!(path = %path.display(), %error, "cannot remove old files");
                }
            }
            Ok(())
        };
        // It cannot fail but by a panic.
        let _ = blocking::own_files(remove).await;
        let collect = |images: &ImageStore| images.collect_garbage();
        if let Err(error) = self.parts.images.long_aside(collect).await {
            // On a disk that is read-only or broken; it is tried again later.
            warn!(error = %chain(&error), "layers that nobody needs are left");
        }
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
        thrown_away.and(bundles).and(released)
    }
}
