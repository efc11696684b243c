//! What is to be made of a manifest, in the words of the CRI and in our own.

use std::{path::PathBuf, time::Duration};

use crate::cri::v1::{ContainerConfig, PodSandboxConfig};

/// What a translation has to know of the node and of the pod's life.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Where the pod's volumes and logs are.
    pub directory: PathBuf,
    /// The pod's unique id, where the manifest names none.
    pub uid: String,
    /// The node's name.
    pub node_name: String,
    /// Addresses of the node, the first one first.
    pub host_addresses: Vec<String>,
    /// Addresses of the pod; none before its sandbox is there.
    pub pod_addresses: Vec<String>,
    /// Memory of the node, in bytes.
    pub memory: u64,
    /// Processors of the node.
    pub processors: u64,
    /// The id that 0 is on the host, for a pod with a user namespace.
    pub first_user: u32,
}

/// A pod as it is to be.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its sandbox.
    pub sandbox: PodSandboxConfig,
    /// The runtime handler; empty for the usual one.
    pub handler: String,
    /// What containers mount.
    pub volumes: Vec<Volume>,
    /// Containers that come one after the other, and sidecars among them.
    pub init: Vec<Container>,
    /// Containers that run side by side.
    pub containers: Vec<Container>,
    /// How long containers may take to end.
    pub grace: Duration,
    /// How long the pod may run at most.
    pub deadline: Option<Duration>,
    /// What is not as it would be in a cluster.
    pub notes: Vec<String>,
}

/// What containers mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What it is.
    pub source: Source,
    /// The group that owns what is in it.
    pub group: Option<u32>,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory that goes with the pod.
    Directory,
    /// The same in memory, of so many bytes at most.
    Memory(Option<u64>),
    /// A path of the host.
    Host {
        /// Which.
        path: PathBuf,
        /// `type` of `hostPath`.
        kind: String,
    },
    /// Files of config maps, secrets and the pod's own data, in memory.
    Files(Vec<File>),
    /// An image.
    Image {
        /// Its name.
        reference: String,
        /// When it is pulled.
        pull: Pull,
    },
}

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Below the volume.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pull {
    /// Before each pod.
    Always,
    /// The same, unless it cannot be and the image is there: nobody has said anything, and the
    /// image has no tag, or `latest`.
    Usually,
    /// Where it is not there.
    #[default]
    IfNotPresent,
    /// It must be there.
    Never,
}

/// When a container that has ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restart {
    /// In any case.
    #[default]
    Always,
    /// Where it has failed.
    OnFailure,
    /// Never.
    Never,
}

/// A container as it is to be.
#[derive(Debug, Clone, Default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// When that is pulled.
    pub pull: Pull,
    /// What the runtime is told.
    pub config: ContainerConfig,
    /// When it is started again.
    pub restart: Restart,
    /// It is started before others and runs beside them.
    pub is_sidecar: bool,
    /// It must not run as root.
    pub non_root: bool,
    /// Parts of volumes, which are made where they are not there.
    pub sub_paths: Vec<SubPath>,
    /// Whether it has started.
    pub startup: Option<Probe>,
    /// Whether it is to be started again.
    pub liveness: Option<Probe>,
    /// Whether it can be asked.
    pub readiness: Option<Probe>,
    /// Done after its start.
    pub post_start: Option<Action>,
    /// Done before its end.
    pub pre_stop: Option<Action>,
}

/// A part of a volume that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubPath {
    /// The volume's directory.
    pub volume: PathBuf,
    /// The path below it.
    pub path: PathBuf,
}

/// A question that is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub action: Action,
    /// Before the first time.
    pub delay: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Between two.
    pub period: Duration,
    /// So many good answers in a row count.
    pub successes: u32,
    /// So many bad ones.
    pub failures: u32,
    /// How long the container may take to end, where that is another time than the pod's.
    pub grace: Option<Duration>,
}

/// Something that is done with a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A command in it.
    Exec(Vec<String>),
    /// A request.
    Http(Http),
    /// A connection.
    Tcp {
        /// Where; none for the pod.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// The health service of gRPC.
    Grpc {
        /// The port.
        port: u16,
        /// Whose health; empty for the server's.
        service: String,
    },
    /// Nothing for a while.
    Sleep(Duration),
}

/// A request over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// With TLS, whatever the certificate.
    pub is_tls: bool,
    /// Where; none for the pod.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
}
