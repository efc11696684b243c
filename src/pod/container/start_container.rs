//! StartContainer.

use std::{fs, os::fd::AsFd, path::PathBuf, sync::Arc};

use oci_spec::runtime::Spec;
use tracing::info;

use crate::{
    monitor::{
        record::ExitRecord,
        v1::{self, Started},
    },
    pod::{
        Pods,
        container::{Container, ContainerPhase},
        error::{During, Error, Reason},
        time::now,
    },
    runtime::bundle::Bundle,
    spec::config::NamespaceMode,
};

/// The exit code of a container that could not be started, as Kubernetes knows it.
const START_ERROR: i32 = 128;

impl Pods {
    /// Starts a created container and returns when its program runs.
    ///
    /// # Errors
    /// When it is not in the state for it. When the program cannot be executed, or the
    /// kernel refuses a step, the container is then `Exited` with the reason `StartError`.
    pub async fn start_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        let (pods, container) = (Arc::clone(self), Arc::clone(container));
        crate::pod::own(async move {
            let _guard = container.operation.lock().await;
            pods.start_locked(&container).await
        })
        .await
    }

    async fn start_locked(&self, container: &Container) -> Result<(), Error> {
        if container.record().phase != ContainerPhase::Created {
            return Err(container.wrong_state("starting it", "; create a new container"));
        }
        let sandbox = self.sandbox_of(container)?;
        let monitor = sandbox.ready_monitor("starting a container")?;
        let path = self.bundle_file(&container.id);
        let bundle = fs::File::open(&path).during("open", &path)?;
        let filter = self.filters.of_container(container)?;
        let spec = self.spec_of(container)?;
        let request = v1::Start {
            log_directory: sandbox.record().config.log_directory.clone(),
            ..request(container, &spec, filter.as_deref().map_or(0, |f| f.flags))?
        };

        let _starting = container.starting.lock().await;
        let program = filter.as_deref().map(|filter| filter.program.as_slice());
        match monitor.start(request, bundle.as_fd(), program).await {
            Ok(started) => {
                info!(container.id = %container.id, pid = started.pid, "container runs");
                let Started { pid, started_at } = started;
                let phase = ContainerPhase::Running { pid, started_at };
                container.observe(&self.parts.database, phase);
                Ok(())
            }
            Err(error) => {
                let exit =
                    ExitRecord { exit_code: START_ERROR, finished_at: now(), oom_killed: false };
                self.end(container, 0, &exit, "StartError", error.to_string());
                Err(error.into())
            }
        }
    }

    pub(in crate::pod) fn read_bundle(&self, container: &Container) -> Result<Bundle, Error> {
        let path = self.bundle_file(&container.id);
        let bytes = fs::read(&path).during("read", &path)?;
        serde_json::from_slice(&bytes).map_err(std::io::Error::from).during("parse", &path)
    }

    /// The container's OCI spec.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn spec_of(&self, container: &Container) -> Result<Arc<Spec>, Error> {
        if let Some(spec) = container.spec() {
            return Ok(spec);
        }
        let spec = Arc::new(self.read_bundle(container)?.spec);
        container.set_spec(Arc::clone(&spec));
        Ok(spec)
    }
}

fn request(container: &Container, spec: &Spec, filter_flags: u32) -> Result<v1::Start, Error> {
    let record = container.record();
    let modes = &record.config.security.namespaces;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let resources = resources.map(serde_json::to_vec).transpose();
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    Ok(v1::Start {
        container: container.id.to_string(),
        cgroup: text(&record.cgroup),
        resources: resources.map_err(|error| Reason::Monitor(error.into()))?.unwrap_or_default(),
        pid_mode: match modes.pid {
            NamespaceMode::Container => v1::PidMode::Container,
            NamespaceMode::Pod => v1::PidMode::Pod,
            NamespaceMode::Node => v1::PidMode::Node,
            NamespaceMode::Target => v1::PidMode::Target,
        }
        .into(),
        target: modes.target.clone(),
        log_path: record.log_path.as_ref().map(text).unwrap_or_default(),
        terminal: record.config.tty,
        stdin: record.config.stdin,
        has_filter: false,
        filter_flags,
        log_directory: String::new(),
        stdin_once: record.config.stdin_once,
    })
}
