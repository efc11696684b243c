//! StartContainer.

use std::{fs, os::fd::AsFd, path::PathBuf, sync::Arc, time::Duration};

use oci_spec::runtime::Spec;
use tokio::time::timeout;
use tracing::info;

use crate::{
    crash,
    kind::chain,
    monitor::{
        client::Monitor,
        v1::{self, Started},
    },
    pod::{
        Pods, blocking,
        container::{Container, ContainerPhase},
        error::{During, Error, Reason},
        id::ContainerId,
        sandbox::Sandbox,
        stage,
        time::now,
    },
    runtime::{bundle::Bundle, hooks},
    spec::config::NamespaceMode,
    telemetry::Operation,
};

/// How long the disk may take to store that a container runs.
const STORE_LIMIT: Duration = Duration::from_secs(2);

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
            let operation = pods.on_container("StartContainer", &container);
            let outcome = pods.start_anew(&container, &operation).await;
            stage::ended(operation, outcome)
        })
        .await
    }

    async fn start_anew(
        self: &Arc<Self>,
        container: &Arc<Container>,
        operation: &Operation,
    ) -> Result<(), Error> {
        let pods = self;
        let sandbox = pods.sandbox_of(container)?;
        operation.stage("waiting for the pod");
        let monitor = sandbox.ready_monitor("starting a container").await?;
        container.begin_start()?;
        operation.stage("preparing its program");
        crash::point("start: begun");
        let started = pods.start_begun(container, &sandbox, &monitor, operation).await;
        crash::point("start: answered by the monitor");
        operation.stage("storing that it runs");
        let phase = match &started {
            Ok(Started { pid, started_at }) => {
                info!(container.id = %container.id, pid, "container runs");
                ContainerPhase::Running { pid: *pid, started_at: *started_at }
            }
            Err(error) => ContainerPhase::Exited {
                started_at: 0,
                finished_at: now(),
                exit_code: START_ERROR,
                reason: "StartError".to_owned(),
                message: chain(error),
            },
        };
        let was_ended = container.finish_start(&pods.parts.database, phase);
        if was_ended && started.is_ok() {
            // Whoever ended it could not know of the program. One that has ended is as good.
            let _ = monitor.stop(container.id.as_str(), libc::SIGKILL, 0).await;
        }
        // What is acknowledged is stored, unless the disk takes its time: then the monitor
        // tells the next daemon.
        let _ = timeout(STORE_LIMIT, pods.parts.database.settled()).await;
        crash::point("start: observed");
        started.map(drop)
    }

    async fn start_begun(
        self: &Arc<Self>,
        container: &Arc<Container>,
        sandbox: &Arc<Sandbox>,
        monitor: &Monitor,
        operation: &Operation,
    ) -> Result<Started, Error> {
        let filter = self.filter_of(container).await?;
        let spec = self.spec_of(container).await?;
        self.confirm_profile(&spec).await?;
        let path = self.bundle_file(&container.id);
        let open = move || fs::File::open(&path).during("open", &path);
        let bundle = blocking::own_files(open).await?;
        let stop_after_refusal = self.refusal_action(container).map_or(0, |action| action.pause());
        let log_directory = sandbox.record().config.log_directory.clone();
        let request = v1::Start {
            log_directory,
            stop_after_refusal,
            log_rate: self.options.containers.log_rate,
            log_burst: self.options.containers.log_burst,
            ..request(container, &spec, filter.as_deref().map_or(0, |f| f.flags))?
        };
        let program = filter.as_deref().map(|filter| filter.program.as_slice());
        if container.is_ended_already() {
            return Err(container.wrong_state("starting it", ", since it was stopped meanwhile"));
        }
        operation.stage("starting its program");
        let start = monitor.start(request, bundle.as_fd(), program);
        self.ask(sandbox, "starting a container", start).await
    }

    pub(in crate::pod) fn read_bundle(&self, id: &ContainerId) -> Result<Bundle, Error> {
        let path = self.bundle_file(id);
        let bytes = fs::read(&path).during("read", &path)?;
        serde_json::from_slice(&bytes).map_err(std::io::Error::from).during("parse", &path)
    }

    /// The container's OCI spec.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn spec_of(self: &Arc<Self>, container: &Container) -> Result<Arc<Spec>, Error> {
        if let Some(spec) = container.spec() {
            return Ok(spec);
        }
        let (pods, id) = (Arc::clone(self), container.id.clone());
        let spec = blocking::own_files(move || Ok(pods.read_bundle(&id)?.spec)).await?;
        let spec = Arc::new(spec);
        if !container.has_ended() {
            container.set_spec(Some(Arc::clone(&spec)));
        }
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
        stdin_once: record.config.stdin_once,
        is_extended: spec.hooks().is_some() || !record.config.raw_envs.is_empty(),
        has_outer_hooks: spec.hooks().as_ref().is_some_and(hooks::need_runner),
        ..v1::Start::default()
    })
}
