//! The life of sandboxes and containers.
//!
//! Entry point: `Pods`. Each public method is one CRI call in Criquet's own words, in a file
//! named after it, in the folder of what it is about. A call that makes something is a task of the daemon, keyed by the identity
//! of what it makes: a repeat joins it. What a task is about to make is recorded before it is
//! made, so that a restart can undo it (`recovery`). The module knows neither protobuf of
//! the CRI nor system calls.

pub mod allowed;
mod blocking;
mod container;
mod error;
mod events;
mod execs;
mod find;
mod happening;
mod health;
mod id;
mod join;
mod known;
mod memory;
mod monitors;
mod options;
mod parallel;
mod pull_image;
mod recovery;
mod report;
mod rules;
mod sandbox;
mod selinux;
mod stage;
mod streams;
mod time;
mod told;
mod usage;

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    image::ImageStore,
    monitor::client::Program,
    network::Network,
    runtime::cgroup::Version,
    spec::container::Node,
    store::Database,
    systemd::Systemd,
    telemetry::{Operations, inherited},
};

pub use allowed::AllowedAnnotations;
pub use container::{
    Container, ContainerPhase, ContainerRecord,
    usage::{Measured, Usage},
};
pub use error::Error;
pub use events::{Behind, Event, Events, Readers, Subject, Subscription};
pub use execs::{Exec, ExecOutput, ExecRequest, MAX_OUTPUT};
pub use happening::Happening;
pub use health::StorageTrouble;
pub use id::{ContainerId, SandboxId};
pub use known::{Known, KnownSandbox};
pub use options::{CgroupDriver, ContainerOptions, ImageVolumes, Options};
pub use parallel::in_parallel;
pub use report::{Counts, Report, Silent};
pub use rules::Rules;
pub use sandbox::{Sandbox, SandboxPhase, SandboxRecord, Trouble};
pub use stage::OPERATIONS;
pub use streams::Attachment;
pub use told::Told;
pub use usage::{Metrics, PodReading};

use find::Objects;
use join::Joint;

/// The database's collection of sandboxes.
const SANDBOXES: &str = "sandboxes";
/// The database's collection of containers.
const CONTAINERS: &str = "containers";

/// What the pods of a daemon are made with.
pub struct Parts {
    /// Durable state.
    pub database: Arc<Database>,
    /// Images.
    pub images: Arc<ImageStore>,
    /// Networks.
    pub network: Network,
    /// The monitor's program.
    pub program: Program,
    /// The mount namespace that those of containers begin with; none for a copy of the host's.
    pub template: Option<OwnedFd>,
    /// What the node can give.
    pub node: Node,
    /// The node's cgroups.
    pub cgroups: Version,
    /// systemd, where it runs the node with cgroup v2.
    pub systemd: Option<Systemd>,
    /// What is under way.
    pub operations: Arc<Operations>,
}

/// All sandboxes and containers of a daemon.
pub struct Pods {
    options: Options,
    parts: Parts,
    boot_id: String,
    current: rules::Current,
    filters: container::filters::Filters,
    selinux: selinux::Selinux,
    pool: monitors::warm::Pool,
    measurements: container::usage::Measurements,
    user_paths: blocking::UserPaths,
    places: monitors::places::Places,
    recovery: recovery::Progress,
    turns: monitors::take_up::Turns,
    probe: health::Probe,
    meters: usage::Meters,
    freed: memory::Freed,
    layers: container::layer::Layers,
    events: Arc<Events>,
    // Held for look-ups and changes of the maps, never across an await.
    objects: Mutex<Objects>,
    runs: Joint<String, SandboxId, Error>,
    creations: Joint<String, ContainerId, Error>,
    stops: Joint<SandboxId, (), Error>,
    removals: Joint<ContainerId, (), Error>,
    sandbox_removals: Joint<SandboxId, (), Error>,
}

impl Pods {
    /// Loads what the database knows. What runs is compared with it beside everything else,
    /// pod by pod, so that calls can be served at once.
    ///
    /// # Errors
    /// When state cannot be read or directories cannot be made.
    pub async fn open(options: Options, parts: Parts) -> Result<Arc<Self>, Error> {
        let boot_id = sandbox::files::boot_id()?;
        let places = monitors::places::Places::of_this_process();
        let layers = {
            let options = options.clone();
            blocking::own_files(move || {
                options.make_directories()?;
                Ok(container::layer::Layers::open(&options))
            })
            .await?
        };
        let pods = Arc::new(Self {
            current: rules::Current::new(options.rules.clone()),
            layers,
            selinux: selinux::Selinux::of_this_node(&options),
            options,
            parts,
            boot_id,
            filters: container::filters::Filters::default(),
            pool: monitors::warm::Pool::default(),
            measurements: container::usage::Measurements::default(),
            user_paths: blocking::UserPaths::default(),
            meters: usage::Meters::new(places.of_meters()),
            places,
            recovery: recovery::Progress::default(),
            turns: monitors::take_up::Turns::default(),
            probe: health::Probe::default(),
            freed: memory::Freed::default(),
            events: Arc::default(),
            objects: Mutex::default(),
            runs: Joint::default(),
            creations: Joint::default(),
            stops: Joint::default(),
            removals: Joint::default(),
            sandbox_removals: Joint::default(),
        });
        let left = {
            let pods = Arc::clone(&pods);
            blocking::own_files(move || {
                pods.close_pool()?;
                pods.load()
            })
            .await?
        };
        pods.recover(left);
        pods.provide_profile();
        pods.fill_pool();
        pods.sample_usage();
        pods.give_memory_back();
        tokio::spawn(Arc::clone(&pods.parts.operations).watch());
        Ok(pods)
    }

    /// The images that containers are made from.
    pub fn images(&self) -> &Arc<ImageStore> {
        &self.parts.images
    }

    /// What the node can give.
    pub fn node(&self) -> &Node {
        &self.parts.node
    }

    /// The networks of the pods.
    pub fn network(&self) -> &Network {
        &self.parts.network
    }

    /// What is under way.
    pub fn operations(&self) -> &Arc<Operations> {
        &self.parts.operations
    }

    /// The cgroups of this node.
    pub fn cgroups(&self) -> Version {
        self.parts.cgroups
    }

    /// systemd, where it makes the cgroups of pods.
    pub fn systemd(&self) -> Option<&Systemd> {
        let is_asked = self.options.cgroup_driver != CgroupDriver::Cgroupfs;
        self.parts.systemd.as_ref().filter(|_| is_asked)
    }

    /// The name of the driver of cgroups, as the kubelet's configuration has it.
    pub fn cgroup_driver(&self) -> &'static str {
        if self.systemd().is_some() { "systemd" } else { "cgroupfs" }
    }

    /// Why containers that should have the node's default AppArmor profile have none.
    pub fn apparmor_trouble(&self) -> Option<String> {
        self.apparmor().trouble()
    }

    /// The AppArmor profile of containers that name none; none where there is no such.
    pub fn apparmor_profile(&self) -> Option<String> {
        self.apparmor().default_profile().map(str::to_owned)
    }

    /// What happens to pods and containers.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Where things are.
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a container has written.
    fn upper_directory(&self, id: &ContainerId) -> PathBuf {
        self.options.root.join("containers").join(id.as_str())
    }

    /// The overlay's own directory for a container.
    fn work_directory(&self, id: &ContainerId) -> PathBuf {
        self.options.root.join("work").join(id.as_str())
    }

    /// What the volumes hold that a container's image declares.
    fn volumes_directory(&self, id: &ContainerId) -> PathBuf {
        self.options.root.join("volumes").join(id.as_str())
    }

    /// What a container is started from; a reboot takes it away with everything that runs.
    fn bundle_file(&self, id: &ContainerId) -> PathBuf {
        self.options.state.join("bundles").join(id.as_str())
    }

    /// Where hooks find a container's spec, beside its bundle.
    fn hooks_directory(&self, id: &ContainerId) -> PathBuf {
        self.bundle_file(id).with_extension("oci")
    }

    /// The users that a container knows, where they are more than its image's.
    fn passwd_file(&self, id: &ContainerId) -> PathBuf {
        self.bundle_file(id).with_extension("passwd")
    }

    /// The filter of system calls of a container that has one of its own, beside its bundle.
    fn filter_file(&self, id: &ContainerId) -> PathBuf {
        self.bundle_file(id).with_extension("seccomp")
    }

    fn sandbox_directory(&self, id: &SandboxId) -> PathBuf {
        self.options.state.join("pods").join(id.as_str())
    }
}

/// Runs work to its end even when the caller gives up.
async fn own<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    use tracing::Instrument;
    let task = tokio::spawn(inherited(work).in_current_span());
    task.await.unwrap_or_else(|_| Err(error::Reason::Aborted.into()))
}
