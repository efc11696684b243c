//! RemoveContainer.

use std::{fs, io, sync::Arc};

use tracing::{info, warn};

use super::{
    CONTAINERS, Pods,
    container::Container,
    error::{During, Error},
    id::ContainerId,
};

impl Pods {
    /// Removes a container, by force where it runs. Its log stays.
    ///
    /// # Errors
    /// When a step fails; a repeat tries the rest again.
    pub async fn remove_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        let (pods, container) = (Arc::clone(self), Arc::clone(container));
        super::own(async move {
            let _guard = container.operation.lock().await;
            pods.remove_locked(&container).await
        })
        .await
    }

    async fn remove_locked(&self, container: &Arc<Container>) -> Result<(), Error> {
        let sandbox = self.sandbox_of(container)?;
        self.kill_and_wait(&sandbox, container).await?;
        match sandbox.monitor() {
            Some(monitor) => match monitor.delete(container.id.as_str()).await {
                Ok(()) => {}
                Err(crate::monitor::client::Error::Gone) => self.remove_cgroup(container).await?,
                Err(error) => return Err(error.into()),
            },
            None => self.remove_cgroup(container).await?,
        }
        self.forget_container(&container.id)?;
        info!(container.id = %container.id, "container is removed");
        Ok(())
    }

    /// Takes away the record and the directory of a container whose processes are gone.
    pub(super) fn forget_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.parts.database.delete(CONTAINERS, id.as_str())?;
        self.objects().containers.remove(id);
        self.parts.images.release(id.as_str())?;
        self.remove_bundle(id)?;
        self.throw_away(id)
    }

    pub(super) fn remove_bundle(&self, id: &ContainerId) -> Result<(), Error> {
        let path = self.bundle_file(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).during("remove", &path)
            }
            _ => Ok(()),
        }
    }

    /// Moves the directory of a container aside, where a tree of any size is removed without
    /// anybody waiting for it.
    pub(super) fn throw_away(&self, id: &ContainerId) -> Result<(), Error> {
        let directory = self.container_directory(id);
        let trash = self.options.root.join("trash").join(id.as_str());
        match fs::rename(&directory, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.during("move away", &directory)?,
        }
        tokio::task::spawn_blocking(move || {
            if let Err(error) = fs::remove_dir_all(&trash) {
                warn!(path = %trash.display(), %error, "cannot remove the files of a container");
            }
        });
        Ok(())
    }
}
