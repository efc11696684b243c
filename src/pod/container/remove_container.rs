//! RemoveContainer.

use std::{
    fs, io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    crash,
    monitor::client::{self, Monitor},
    pod::{
        CONTAINERS, Pods, blocking,
        container::Container,
        error::{During, Error},
        happening::Happening,
        id::ContainerId,
        stage,
    },
    store::Batch,
    sys::tree,
    telemetry::Operation,
};

/// How long processes get to end after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// How long a monitor may take to answer that it has forgotten a container.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

impl Pods {
    /// Whether somebody is removing it.
    pub fn is_being_removed(&self, container: &Container) -> bool {
        self.removals.is_under_way(&container.id)
    }

    /// Removes a container, by force where it runs. Its log stays. A call while another one is
    /// under way joins it.
    ///
    /// # Errors
    /// When a step fails; a repeat tries the rest again.
    pub async fn remove_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        let task = {
            let (pods, container) = (Arc::clone(self), Arc::clone(container));
            move || async move {
                let operation = pods.on_container("RemoveContainer", &container);
                let outcome = pods.remove_anew(&container, &operation).await;
                stage::ended(operation, outcome)
            }
        };
        self.removals.run(container.id.clone(), task).await
    }

    async fn remove_anew(
        self: &Arc<Self>,
        container: &Arc<Container>,
        operation: &Operation,
    ) -> Result<(), Error> {
        operation.stage("ending it");
        // Without its sandbox there is a cgroup at the most.
        let sandbox = self.sandbox_of(container).ok();
        while !container.close() {
            match &sandbox {
                Some(sandbox) => self.end_at_once(sandbox, container).await?,
                None => self.record_unknown(container, "its sandbox is not known"),
            }
        }
        operation.stage("letting the monitor forget it");
        let monitor = sandbox.and_then(|sandbox| sandbox.monitor());
        let deleted = match &monitor {
            Some(monitor) => delete(monitor, container.id.as_str()).await,
            None => false,
        };
        crash::point("remove: ended");
        if !deleted {
            // A monitor that lives and knows it still is told at the next daemon's start.
            operation.stage("removing its cgroup");
            self.remove_cgroup(container).await?;
        }
        operation.stage("running its last hooks");
        self.run_last_hooks(container).await;
        operation.stage("removing its files and its record");
        self.forget_container(container).await?;
        info!(container.id = %container.id, "container is removed");
        Ok(())
    }

    /// Takes away the directory and the record of a container whose processes are gone. The
    /// directory goes first: on a full disk the database needs the room.
    pub(in crate::pod) async fn forget_container(
        self: &Arc<Self>,
        container: &Container,
    ) -> Result<(), Error> {
        let (pods, id) = (Arc::clone(self), container.id.clone());
        blocking::own_files(move || pods.throw_away(&id)).await?;
        crash::point("remove: directories are thrown away");
        self.objects().remove_container(container);
        self.freed.add(1);
        container.happened(Happening::Deleted);
        self.store_soon(container.forget(&self.parts.database), &container.id).await;
        crash::point("remove: forgotten");
        let (pods, id) = (Arc::clone(self), container.id.clone());
        blocking::own_files(move || {
            if let Err(error) = pods.parts.images.release(id.as_str()) {
                // The next daemon finds that nobody is there who holds it.
                warn!(container.id = %id, error = %crate::kind::chain(&error),
                    "its image is held until the next start of the daemon");
            }
            crash::point("remove: image is released");
            pods.remove_bundle(&id)
        })
        .await
    }

    /// Takes back whatever was made of a container that never came to be. Goes on past a step
    /// that fails: the next start of the daemon tries it again. Waits for the disk.
    pub(in crate::pod) fn undo_container(&self, id: &ContainerId) {
        self.parts.database.observe(Batch::without(CONTAINERS, id.as_str())).later();
        let steps = [
            self.throw_away(id),
            self.remove_bundle(id),
            self.parts.images.release(id.as_str()).map_err(Error::from),
        ];
        for error in steps.into_iter().filter_map(Result::err) {
            warn!(container.id = %id, %error, "container is not undone yet");
        }
    }

    pub(in crate::pod) fn remove_bundle(&self, id: &ContainerId) -> Result<(), Error> {
        let directory = self.hooks_directory(id);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).during("remove", &directory);
            }
            _ => {}
        }
        // The bundle last: what lies beside it is found again by its name.
        for path in [self.filter_file(id), self.passwd_file(id), self.bundle_file(id)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).during("remove", &path);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves the directories of a container aside, where a tree of any size is removed without
    /// anybody waiting for it.
    pub(in crate::pod) fn throw_away(&self, id: &ContainerId) -> Result<(), Error> {
        self.layers.release(id);
        let trash = self.options.root.join("trash");
        let directories = [
            (self.upper_directory(id), trash.join(id.as_str())),
            (self.work_directory(id), trash.join(format!("{id}.work"))),
            (self.volumes_directory(id), trash.join(format!("{id}.volumes"))),
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
                if let Err(error) = tree::remove_at(&path) {
                    warn!(path = %path.display(), %error, "cannot remove files of a container");
                }
            }
        });
        Ok(())
    }
}

/// Lets the monitor forget a container. Processes that were killed with its first one may take
/// a moment to end. Whether it has.
async fn delete(monitor: &Monitor, id: &str) -> bool {
    let end = Instant::now() + AFTER_KILL;
    loop {
        match timeout(ANSWER_LIMIT, monitor.delete(id)).await {
            Ok(Ok(())) => return true,
            Ok(Err(client::Error::Refused { .. })) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => return false,
        }
    }
}
