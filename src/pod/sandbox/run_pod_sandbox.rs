//! RunPodSandbox.

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};
use tracing::{Instrument, debug, info, info_span};

use crate::{
    crash,
    monitor::client::{self, Monitor},
    pod::{
        Pods, SANDBOXES, blocking,
        error::{During, Error, Reason},
        happening::Happening,
        id::SandboxId,
        monitors::{exits, warm},
        sandbox::{
            Sandbox, SandboxPhase, SandboxRecord, addresses, check,
            files::{self, Files},
            key_of,
            scope::Place,
            unmake::Remains,
        },
        stage,
        time::now,
    },
    spec::{
        self,
        config::{NamespaceMode, SandboxConfig},
    },
    store::Batch,
    sys::process::Identity,
    telemetry::Operation,
};

/// How long a pod waits for the file system of its logs: as long as the kubelet waits for an
/// answer (`runtimeRequestTimeout`), so that it is told the reason.
const LOG_DIRECTORY_LIMIT: Duration = Duration::from_secs(100);

impl Pods {
    /// Makes a sandbox and returns its id once it is ready. A repeat with the same metadata
    /// gets the first one's.
    ///
    /// # Errors
    /// What is wrong with the configuration, by field; failures of the monitor and the
    /// network. Nothing is left of a sandbox that failed.
    pub async fn run_sandbox(
        self: &Arc<Self>,
        config: SandboxConfig,
        handler: String,
    ) -> Result<SandboxId, Error> {
        self.check(&config, &handler)?;
        let key = key_of(&config);
        let pods = Arc::clone(self);
        let task = {
            let key = key.clone();
            move || async move { pods.run_anew(key, config, handler).await }
        };
        self.runs.run(key, task).await
    }

    fn check(&self, config: &SandboxConfig, handler: &str) -> Result<(), Error> {
        let handlers = &self.rules().handlers;
        if !handler.is_empty() && !handlers.iter().any(|known| known == handler) {
            let known = handlers.join(", ");
            return Err(Reason::Handler { name: handler.to_owned(), known }.into());
        }
        spec::text::check("config", config)?;
        for (field, value) in [
            ("metadata.name", &config.metadata.name),
            ("metadata.namespace", &config.metadata.namespace),
            ("metadata.uid", &config.metadata.uid),
        ] {
            if value.is_empty() {
                return Err(spec::Error::invalid(field, "must not be empty").into());
            }
        }
        if !config.log_directory.is_empty() && !Path::new(&config.log_directory).is_absolute() {
            let reason = format!("{:?} must be an absolute path", config.log_directory);
            return Err(spec::Error::invalid("log_directory", reason).into());
        }
        files::check(config)?;
        check::check_sandbox(config)?;
        check::check_cgroup_parent(&config.cgroup_parent, self.systemd().is_some())?;
        self.shm_size_of(&config.annotations)?;
        addresses::wanted(&config.annotations, &self.options.containers.allowed_annotations)?;
        Ok(())
    }

    async fn run_anew(
        self: Arc<Self>,
        key: String,
        config: SandboxConfig,
        handler: String,
    ) -> Result<SandboxId, Error> {
        // What nobody knows any more may still have the addresses that this one would get.
        let name = format!("{}/{}", config.metadata.namespace, config.metadata.name);
        let waiting = self.on_new("RunPodSandbox", "pod", &name);
        waiting.stage("waiting for the end of pods that are not known");
        self.unknown_are_ended().await;
        drop(waiting);
        if let Some(existing) = self.sandbox_with_key(&key) {
            return match existing.record().phase {
                SandboxPhase::Ready => Ok(existing.id.clone()),
                _ => {
                    let id = existing.id.to_string();
                    Err(Reason::Exists { what: "sandbox", id }.into())
                }
            };
        }
        let id = SandboxId::random().during("read", Path::new("/dev/urandom"))?;
        let span = info_span!("run_sandbox", sandbox.id = %id);
        let level = self.selinux.level_for(&config)?;
        let mut record = self.record_of(&id, config, handler)?;
        record.selinux_level = level.as_ref().map(|(level, _)| level.clone());
        let sandbox = Sandbox::new(id.clone(), record, self.events.of_sandboxes());
        if let Some((_, Some(lease))) = level {
            let _ = sandbox.level.set(lease);
        }
        let operation = self.on_sandbox("RunPodSandbox", &sandbox);
        operation.stage("recording");
        // Recorded before anything of it is made, so that a restart can undo it.
        let record = Batch::of(SANDBOXES, id.as_str(), &*sandbox.record())?;
        self.parts.database.submit(record).known().await?;
        crash::point("run: recorded");
        let made = self.make_sandbox(&sandbox, &operation).instrument(span.clone()).await;
        self.fill_pool();
        let made = stage::ended(operation, made);
        match made {
            Ok(()) => {
                self.objects().add_sandbox(Arc::clone(&sandbox));
                self.freed.add(crate::pod::memory::PER_START);
                sandbox.happened(Happening::Created);
                sandbox.happened(Happening::Started);
                span.in_scope(|| info!("sandbox is ready"));
                Ok(id)
            }
            Err(error) => {
                self.undo_sandbox(&sandbox).instrument(span).await;
                Err(error)
            }
        }
    }

    fn record_of(
        &self,
        id: &SandboxId,
        config: SandboxConfig,
        handler: String,
    ) -> Result<SandboxRecord, Error> {
        let modes = &config.security.namespaces;
        let own_network = modes.network != NamespaceMode::Node;
        let own_ipc = modes.ipc != NamespaceMode::Node;
        let directory = self.sandbox_directory(id);
        let Place { cgroup, owns_cgroup, slice, monitor } = self.place_of(id, &config)?;
        let netns = self.options.netns_dir.join(format!("criquet-{id}"));
        let mut record = SandboxRecord {
            network: None,
            runtime_handler: handler,
            created_at: now(),
            phase: SandboxPhase::Creating,
            addresses: Vec::new(),
            netns: own_network.then_some(netns),
            shm: own_ipc.then(|| directory.join("shm")),
            files: Some(directory.join("files")),
            cgroup,
            owns_cgroup,
            slice,
            monitor_cgroup: monitor,
            boot_id: self.boot_id.clone(),
            monitor_pid: 0,
            monitor: None,
            selinux_level: None,
            dismantled: false,
            config,
        };
        let request = || self.network_request(id, &record.config, record.pod_cgroup());
        record.network = own_network.then(request);
        Ok(record)
    }

    /// The steps in their order; [`Pods::undo_sandbox`] takes back whichever were done.
    async fn make_sandbox(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        operation: &Operation,
    ) -> Result<(), Error> {
        let record = sandbox.record().clone();
        let directory = self.sandbox_directory(&sandbox.id);
        let hostname = hostname_of(&record.config)?;
        operation.stage("starting the monitor");
        let monitor = self.start_monitor(sandbox, &directory).await?;
        self.place_monitor(sandbox).await?;
        let mut scope = self.begin_scope(sandbox);
        if record.init_cgroup().is_some()
            && let Some(scope) = scope.take()
        {
            // The monitor starts the init in a cgroup below.
            operation.stage("waiting for systemd to make the pod's scope");
            scope.there().await?;
        }
        operation.waits_for(sandbox.monitor_pid());
        operation.stage("setting up the monitor");
        let template = self.parts.template.as_ref().map(AsFd::as_fd);
        monitor.set_up(self.setup(&record, &directory, &hostname)?, template).await?;
        crash::point("run: monitor is set up");
        debug!("monitor is set up");
        operation.waits_for(None);
        operation.stage("setting up the network");
        // Plugins may take long, and so may the file system of the logs.
        let joining = async {
            let joined = self.join_network(&record).await;
            operation.stage("making the log directory");
            joined
        };
        let (addresses, log_directory) =
            tokio::join!(joining, self.make_log_directory(&record.config));
        let addresses = addresses?;
        crash::point("run: network is set up");
        self.set_network_sysctls(&record).await?;
        debug!(?addresses, "network is set up");
        operation.stage("writing the pod's files");
        self.write_files(sandbox, &directory, hostname, &addresses).await?;
        crash::point("run: files are written");
        log_directory?;
        if let Some(scope) = scope {
            operation.stage("waiting for systemd to make the pod's scope");
            scope.there().await?;
        }
        let is_gone = |sandbox: &Sandbox| sandbox.monitor().is_none_or(|one| one.is_gone());
        if sandbox.ending.is_cancelled() || is_gone(sandbox) {
            return Err(client::Error::Gone.into());
        }
        operation.stage("storing that it is ready");
        sandbox.answers();
        // A fact: a restart that does not find it undoes the pod, as it does any that is not
        // whole.
        let stored = sandbox.observe(&self.parts.database, |record| {
            record.addresses = addresses;
            record.phase = SandboxPhase::Ready;
        });
        match stored {
            Some(outcome) => {
                outcome.known().await?;
                if is_gone(sandbox) {
                    // Who saw it go has seen a sandbox that was not ready yet.
                    self.take_up(sandbox);
                }
                crash::point("run: ready");
                Ok(())
            }
            None => Err(Reason::Aborted.into()),
        }
    }

    /// A monitor that waits, or else a new one, with a directory of the pod's own.
    async fn start_monitor(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        directory: &Path,
    ) -> Result<Monitor, Error> {
        let modes = sandbox.record().config.security.namespaces.clone();
        let isolated = modes.network != NamespaceMode::Node && modes.ipc != NamespaceMode::Node;
        let kind = if isolated { warm::Kind::Isolated } else { warm::Kind::Plain };
        let place = self.places.take()?;
        let warm = self.pool.take(kind);
        let socket = self.socket_of(&sandbox.id);
        let (pods, directory) = (Arc::clone(self), directory.to_owned());
        let (monitor, events) = blocking::own_files(move || {
            fs::create_dir(&directory).during("create directory", &directory)?;
            crash::point("run: directory is made");
            match warm {
                Some(warm) => {
                    fs::rename(&warm.socket, &socket).during("take over", &warm.socket)?;
                    Ok((warm.monitor, warm.events))
                }
                None => {
                    let (sender, events) = mpsc::unbounded_channel();
                    Ok((pods.parts.program.spawn(&socket, sender)?, events))
                }
            }
        })
        .await?;
        let identity = monitor.pid().and_then(|pid| Identity::of(pid).ok());
        {
            let mut record = sandbox.record();
            record.monitor_pid = monitor.pid().unwrap_or(0);
            record.monitor = identity;
        }
        sandbox.set_monitor(monitor.clone(), place);
        exits::watch(self, sandbox, events);
        Ok(monitor)
    }

    /// What the containers of the pod see of it, and what ends it where it is not known.
    async fn write_files(
        &self,
        sandbox: &Sandbox,
        directory: &Path,
        hostname: String,
        addresses: &[std::net::IpAddr],
    ) -> Result<(), Error> {
        let (record, directory) = (sandbox.record().clone(), directory.to_owned());
        let addresses = addresses.to_vec();
        blocking::own_files(move || {
            Remains::of(&record).write(&directory)?;
            let files = Files::of(record.files.as_deref().unwrap_or(&directory));
            files.write(&record.config, &hostname, &addresses)?;
            files.link_into(&directory)
        })
        .await
    }

    /// It lies where the client says: its file system may not answer.
    async fn make_log_directory(&self, config: &SandboxConfig) -> Result<(), Error> {
        if config.log_directory.is_empty() {
            return Ok(());
        }
        let path = PathBuf::from(&config.log_directory);
        let making = {
            let path = path.clone();
            let make = move || fs::create_dir_all(&path).during("create log directory", &path);
            self.user_paths.run(make)
        };
        match timeout(LOG_DIRECTORY_LIMIT, making).await {
            Ok(result) => result,
            Err(_) => Err(Reason::TooSlow {
                what: format!("making the log directory {}", path.display()),
                seconds: LOG_DIRECTORY_LIMIT.as_secs(),
            }
            .into()),
        }
    }

    pub(in crate::pod) fn socket_of(&self, id: &SandboxId) -> PathBuf {
        self.sandbox_directory(id).join("m")
    }
}

/// With the host's network a pod has the host's name.
fn hostname_of(config: &SandboxConfig) -> Result<String, Error> {
    let own = config.security.namespaces.network != NamespaceMode::Node;
    if own && !config.hostname.is_empty() {
        return Ok(config.hostname.clone());
    }
    files::host_name()
}
