//! RemoveContainer.

use std::{
    fs, io,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use crate::{
    monitor::client::{self, Monitor},
    pod::{
        CONTAINERS, Pods,
        container::Container,
        error::{During, Error},
        id::ContainerId,
    },
};

/// How long processes get to end after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(10);

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
        crate::pod::own(async move {
            let _guard = container.operation.lock().await;
            pods.remove_locked(&container).await
        })
        .await
    }

    async fn remove_locked(&self, container: &Arc<Container>) -> Result<(), Error> {
        let sandbox = self.sandbox_of(container)?;
        self.kill_and_wait(&sandbox, container).await?;
        match sandbox.monitor() {
            Some(monitor) => match delete(&monitor, container.id.as_str()).await {
                Ok(()) => {}
                Err(client::Error::Gone) => self.remove_cgroup(container).await?,
                Err(error) => return Err(error.into()),
            },
            None => self.remove_cgroup(container).await?,
        }
        self.forget_container(&container.id)?;
        info!(container.id = %container.id, "container is removed");
        Ok(())
    }

    /// Takes away the directory and the record of a container whose processes are gone. The
    /// directory goes first: on a full disk the database needs the room.
    fn forget_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.throw_away(id)?;
        self.parts.database.delete(CONTAINERS, id.as_str())?;
        self.objects().containers.remove(id);
        self.parts.images.release(id.as_str())?;
        self.remove_bundle(id)
    }

    /// Takes back whatever was made of a container that never came to be. Goes on past a step
    /// that fails: the next start of the daemon tries it again.
    pub(in crate::pod) fn undo_container(&self, id: &ContainerId) {
        let steps = [
            self.throw_away(id),
            self.remove_bundle(id),
            self.parts.images.release(id.as_str()).map_err(Error::from),
            self.parts.database.delete(CONTAINERS, id.as_str()).map_err(Error::from),
        ];
        for error in steps.into_iter().filter_map(Result::err) {
            warn!(container.id = %id, %error, "container is not undone yet");
        }
    }

    pub(in crate::pod) fn remove_bundle(&self, id: &ContainerId) -> Result<(), Error> {
        let path = self.bundle_file(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).during("remove", &path)
            }
            _ => Ok(()),
        }
    }

    /// Moves the directories of a container aside, where a tree of any size is removed without
    /// anybody waiting for it.
    pub(in crate::pod) fn throw_away(&self, id: &ContainerId) -> Result<(), Error> {
        let trash = self.options.root.join("trash");
        let directories = [
            (self.upper_directory(id), trash.join(id.as_str())),
            (self.work_directory(id), trash.join(format!("{id}.work"))),
        ];
        let mut moved = Vec::new();
        for (directory, target) in directories {
            match fs::rename(&directory, &target) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => {
                    result.during("move away", &directory)?;
                    moved.push(target);
                }
            }
        }
        tokio::task::spawn_blocking(move || {
            for path in moved {
                if let Err(error) = fs::remove_dir_all(&path) {
                    warn!(path = %path.display(), %error, "cannot remove files of a container");
                }
            }
        });
        Ok(())
    }
}

/// Processes that were killed with the container's first one may take a moment to end.
async fn delete(monitor: &Monitor, id: &str) -> Result<(), client::Error> {
    let end = Instant::now() + AFTER_KILL;
    loop {
        match monitor.delete(id).await {
            Err(client::Error::Refused { .. }) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            result => return result,
        }
    }
}
