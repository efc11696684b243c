//! CreateContainer.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use oci_spec::runtime::Spec;
use tracing::{info, warn};

use crate::{
    cdi, crash,
    image::Image,
    pod::{
        CONTAINERS, Pods,
        container::{
            Container, ContainerPhase, ContainerRecord, check, devices, filters, hooks, io_classes,
            key_of, log_path::log_path, propagation, user,
        },
        error::{During, Error, Reason},
        happening::Happening,
        id::ContainerId,
        sandbox::{
            Sandbox, SandboxPhase,
            files::{Files, host_name},
        },
        time::now,
    },
    runtime::bundle::{Bundle, DeclaredVolumes, Rootfs},
    spec::{
        self,
        config::{ContainerConfig, Map, NamespaceMode, UserNamespace},
        container::{ImageDefaults, Request, Sandbox as SpecSandbox},
        signal,
    },
    telemetry::Operation,
};

impl Pods {
    /// Makes a container in a ready sandbox. A repeat with the same metadata gets the first
    /// one's id.
    ///
    /// # Errors
    /// What is wrong with the configuration, by field; an image that is not there. Nothing is
    /// left of a container that failed.
    pub async fn create_container(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<ContainerId, Error> {
        spec::text::check("config", &config)?;
        sandbox.check_open("creating a container")?;
        let key = key_of(&sandbox.id, &config);
        let task = {
            let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
            move || async move { pods.create_anew(&sandbox, config).await }
        };
        let creation = self.creations.run(key, task);
        // The source of a mount may lie on a file system that never answers. Whoever waits for
        // it does so until the sandbox ends; what comes of it then is undone.
        tokio::select! {
            created = creation => created,
            () = sandbox.ending.cancelled() => Err(ends_before(sandbox)),
        }
    }

    async fn create_anew(
        self: Arc<Self>,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<ContainerId, Error> {
        let is_the_same =
            |other: &Arc<Container>| other.record().config.metadata == config.metadata;
        if let Some(existing) = self.containers_of(sandbox).into_iter().find(is_the_same) {
            let id = existing.id.clone();
            return match existing.record().phase {
                ContainerPhase::Created => Ok(id),
                _ => Err(Reason::Exists { what: "container", id: id.to_string() }.into()),
            };
        }
        let id = ContainerId::random().during("read", Path::new("/dev/urandom"))?;
        let operation = Arc::new(self.on_new("CreateContainer", "container", id.as_str()));
        let outcome = self.create_as(&id, sandbox, config, &operation).await;
        if let Err(error) = &outcome {
            operation.failed(error.kind());
        }
        outcome?;
        info!(container.id = %id, sandbox.id = %sandbox.id, "container is created");
        Ok(id)
    }

    async fn create_as(
        self: &Arc<Self>,
        id: &ContainerId,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
        operation: &Arc<Operation>,
    ) -> Result<(), Error> {
        operation.stage("waiting until it is known what earlier daemons left");
        self.names_are_read().await;
        operation.stage("waiting for the pod");
        sandbox.ready_monitor("creating a container").await?;
        let work = {
            let (pods, id, sandbox) = (Arc::clone(self), id.clone(), Arc::clone(sandbox));
            let operation = Arc::clone(operation);
            move || {
                // Where a disk does not answer it is this thread that hangs.
                operation.is_on_this_thread();
                let made = pods.make_container(&id, &sandbox, config, &operation);
                let made = made.and_then(|container| pods.add_container(&sandbox, container));
                made.inspect_err(|_| pods.undo_container(&id))
            }
        };
        operation.stage("waiting for a thread");
        self.user_paths.run(work).await
    }

    /// Makes a container known, unless its sandbox has begun to end: who ends it looks at what
    /// is known after that.
    fn add_container(&self, sandbox: &Sandbox, container: Arc<Container>) -> Result<(), Error> {
        let mut objects = self.objects();
        if sandbox.ending.is_cancelled() {
            return Err(ends_before(sandbox));
        }
        objects.add_container(Arc::clone(&container));
        container.happened(Happening::Created);
        self.freed.add(crate::pod::memory::PER_START);
        Ok(())
    }

    fn make_container(
        &self,
        id: &ContainerId,
        sandbox: &Sandbox,
        mut config: ContainerConfig,
        operation: &Operation,
    ) -> Result<Arc<Container>, Error> {
        operation.stage("looking at its image");
        let (image, image_ref) = self.image_of(&config)?;
        let sandbox_record = sandbox.record().clone();
        let namespace = &sandbox_record.config.metadata.namespace;
        self.parts.images.admit(&image.id, config.image.as_the_user_knows_it(), namespace)?;
        self.check_container(sandbox, &config)?;
        for name in spec::capabilities::unknown(&config.security) {
            warn!(container.id = %id, name, "a capability that is not known is passed over");
        }
        let filter = filters::own_filter(&config)?;
        check::share_namespaces(&sandbox_record.config, &mut config);
        let users = self.parts.images.users(&image.id)?;
        let user = user::of(&config, &users, &image)?;
        let log_path = log_path(&sandbox_record.config.log_directory, &config.log_path)?;
        let stop_signal = stop_signal(&config, &image)?;
        operation.stage("looking at the sources of its mounts");
        for mount in config.mounts.iter().filter(|mount| mount.image.is_none()) {
            propagation::prepare(mount)?;
        }
        let labels = self.selinux.labels_of(&sandbox_record, &config)?;
        self.selinux.relabel(labels.as_ref(), &config, &self.options, sandbox, operation)?;
        let volumes = self.find_image_volumes(&mut config, namespace)?;
        let annotations = &sandbox_record.config.annotations;
        let limit = self.layers.limit_of(&self.options, annotations, &config.metadata.name)?;
        let cgroup = sandbox_record.cgroup.join(id.as_str());

        operation.stage("holding its image");
        // From here on something is made: `undo_container` takes it back.
        let images = &self.parts.images;
        let (layers, volumes) = images.hold_with_volumes(&image.id, &volumes, id.as_str())?;
        crash::point("create: image is held");
        operation.stage("making its files");
        let volumes = self.with_empty_layer(volumes);
        let of_sandbox = self.spec_sandbox(sandbox, &config, &cgroup)?;
        let defaults = image_defaults(&image);
        let mut spec = spec::container::build(&Request {
            config: &config,
            image: &defaults,
            volumes: &volumes,
            sandbox: &of_sandbox,
            user: &user,
            node: &self.parts.node,
            devices: &devices::look_up(&config)?,
            apparmor: self.apparmor().profile_of(&config.security)?,
            selinux: labels.as_ref(),
        })?;
        let label = labels.as_ref().map(|labels| labels.mount.to_string());
        let extras = self.extras(id, &config, annotations, (&user, &users), label.as_deref())?;
        let classes = self.options.containers.blockio_config_file.as_deref();
        if let Some(block_io) = io_classes::look_up(classes, annotations, &config)? {
            spec::extras::limit_block_io(&mut spec, block_io);
        }
        spec::extras::apply(&mut spec, &extras, &config, &defaults, &self.parts.node);
        self.add_named_devices(&mut spec, &config)?;
        let declared = self.declare_volumes(id, &image, &spec)?;
        let hooks = self.prepare_hooks(id, &spec)?;
        let raw_environment = spec::container::raw_environment(&config, &spec);
        let bundle = Bundle { hooks, raw_environment, ..self.bundle(id, spec, &layers, declared) };
        // The writable directory shows as the container's root: it is what `/` of the image is.
        let root = images.root(&image.id)?;
        for path in [self.upper_directory(id), self.work_directory(id)] {
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.during("create directory", &path)?;
        }
        let (upper, work) = (self.upper_directory(id), self.work_directory(id));
        let mut owned = vec![upper.as_path(), &work];
        owned.extend(bundle.volumes.directory.as_deref());
        let project = self.layers.make(id, &owned, limit)?;
        let users = config.security.namespaces.users;
        let (uid, gid) = on_the_host(users, root.uid, root.gid);
        chown(&upper, Some(uid), Some(gid))
            .and_then(|()| fs::set_permissions(&upper, fs::Permissions::from_mode(root.mode)))
            .during("give to its owner", &upper)?;
        crash::point("create: directories are made");
        let file = self.bundle_file(id);
        let json = serde_json::to_vec(&bundle).map_err(std::io::Error::from);
        json.and_then(|json| fs::write(&file, json)).during("write", &file)?;
        let record = ContainerRecord {
            sandbox: sandbox.id.clone(),
            config: config.into(),
            image_id: image.id,
            image_ref,
            created_at: now(),
            phase: ContainerPhase::Created,
            user,
            log_path,
            stop_signal,
            cgroup,
            project,
            has_last_hooks: hooks::are_last(&bundle.spec),
        };
        if let Some(filter) = &filter {
            filter.write(&self.filter_file(id))?;
        }
        crash::point("create: bundle is written");
        operation.stage("recording it");
        self.parts.database.put(CONTAINERS, id.as_str(), &record)?;
        crash::point("create: recorded");
        let container = Container::new(id.clone(), record, self.events.of_containers());
        container.set_spec(Some(Arc::new(bundle.spec)));
        container.set_filter(filter);
        Ok(container)
    }

    fn image_of(&self, config: &ContainerConfig) -> Result<(Image, String), Error> {
        let name = &config.image.image;
        if name.is_empty() {
            return Err(spec::Error::invalid("image.image", "must not be empty").into());
        }
        let image = self.parts.images.find(name).ok_or_else(|| Reason::NoImage(name.clone()))?;
        if image.is_artifact {
            return Err(Reason::Artifact(name.clone()).into());
        }
        let reference = image.repo_digests.first().cloned();
        let reference = reference.unwrap_or_else(|| image.id.to_string());
        Ok((image, reference))
    }

    fn check_container(&self, sandbox: &Sandbox, config: &ContainerConfig) -> Result<(), Error> {
        if config.metadata.name.is_empty() {
            return Err(spec::Error::invalid("metadata.name", "must not be empty").into());
        }
        let record = sandbox.record().clone();
        check::check_container(&record.config, config)?;
        let modes = &config.security.namespaces;
        if modes.pid == NamespaceMode::Target {
            let target = self.container(&modes.target)?;
            if target.record().sandbox != sandbox.id || !target.is_running() {
                let reason = format!("{:?} is no running container of this sandbox", modes.target);
                let field = "namespace_options.target_id";
                return Err(spec::Error::invalid(field, reason).into());
            }
        }
        debug_assert_ne!(record.phase, SandboxPhase::Creating);
        Ok(())
    }

    /// The changes that devices by their names bring along.
    fn add_named_devices(&self, spec: &mut Spec, config: &ContainerConfig) -> Result<(), Error> {
        let named = cdi::names(&config.cdi_devices, &config.annotations)?;
        for edits in cdi::resolve(&self.rules().cdi_spec_dirs, &named)? {
            spec::edits::apply(spec, &edits);
        }
        Ok(())
    }

    fn bundle(
        &self,
        id: &ContainerId,
        spec: Spec,
        layers: &[PathBuf],
        volumes: DeclaredVolumes,
    ) -> Bundle {
        let parent = layers.first().and_then(|layer| layer.parent());
        let rootfs = Rootfs::Overlay {
            layers: parent.unwrap_or(Path::new("/")).to_owned(),
            lower: layers
                .iter()
                .filter_map(|layer| layer.file_name())
                .map(PathBuf::from)
                .chain([self.options.base_layer()])
                .collect(),
            upper: self.upper_directory(id),
            work: self.work_directory(id),
        };
        Bundle {
            spec,
            rootfs,
            mount_point: self.options.mount_point(),
            volumes,
            hooks: None,
            raw_environment: Default::default(),
        }
    }

    fn spec_sandbox(
        &self,
        sandbox: &Sandbox,
        config: &ContainerConfig,
        cgroup: &Path,
    ) -> Result<SpecSandbox, Error> {
        let record = sandbox.record();
        let directory = self.sandbox_directory(&sandbox.id);
        let files = Files::of(record.files.as_deref().unwrap_or(&directory));
        let shm = match config.security.namespaces.ipc {
            NamespaceMode::Node => Some(PathBuf::from("/dev/shm")),
            _ => record.shm.clone(),
        };
        Ok(SpecSandbox {
            hostname_file: Some(files.hostname),
            hosts_file: Some(files.hosts),
            resolv_conf: Some(files.resolv_conf),
            shm,
            hostname: match record.config.hostname.as_str() {
                "" => host_name()?,
                name => name.to_owned(),
            },
            monitor_pid: record.monitor_pid,
            netns: record.netns.clone(),
            cgroup: cgroup.to_owned(),
            annotations: annotations(sandbox, &record.config, config),
        })
    }
}

fn image_defaults(image: &Image) -> ImageDefaults {
    ImageDefaults {
        env: image.config.env.clone(),
        entrypoint: image.config.entrypoint.clone(),
        cmd: image.config.cmd.clone(),
        working_dir: image.config.working_dir.clone(),
    }
}

/// Who owns a file of the host that belongs to this user and group in the container.
fn on_the_host(users: Option<UserNamespace>, uid: u32, gid: u32) -> (u32, u32) {
    users.map_or((uid, gid), |users| {
        (uid.saturating_add(users.uids.host), gid.saturating_add(users.gids.host))
    })
}

fn ends_before(sandbox: &Sandbox) -> Error {
    Reason::State {
        what: "sandbox",
        id: sandbox.id.to_string(),
        state: "being stopped",
        action: "creating a container",
        hint: "; create a new sandbox",
    }
    .into()
}

/// Under the names that tools know from containerd.
fn annotations(
    sandbox: &Sandbox,
    of_sandbox: &spec::config::SandboxConfig,
    of_container: &ContainerConfig,
) -> Map {
    let own = [
        ("container-type", "container"),
        ("sandbox-id", sandbox.id.as_str()),
        ("sandbox-name", &of_sandbox.metadata.name),
        ("sandbox-namespace", &of_sandbox.metadata.namespace),
        ("sandbox-uid", &of_sandbox.metadata.uid),
        ("container-name", &of_container.metadata.name),
        ("image-name", &of_container.image.image),
    ];
    own.into_iter()
        .map(|(name, value)| (format!("io.kubernetes.cri.{name}"), value.to_owned()))
        .collect()
}

fn stop_signal(config: &ContainerConfig, image: &Image) -> Result<i32, Error> {
    if let Some(name) = &config.stop_signal {
        return signal::number(name).ok_or_else(|| {
            spec::Error::invalid("stop_signal", format!("{name:?} is not a signal")).into()
        });
    }
    // What an image says is no request of the user's; one that makes no sense is passed over.
    let of_image = image.config.stop_signal.as_deref().and_then(signal::number);
    Ok(of_image.unwrap_or(libc::SIGTERM))
}
