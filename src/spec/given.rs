//! What a spec is made of besides the configuration: of the node, the sandbox and the image.

use std::path::PathBuf;

use oci_spec::runtime::LinuxDevice;

use super::{capabilities, config::Map};

/// What the node can give.
#[derive(Debug, Clone)]
pub struct Node {
    /// Capabilities that the daemon has.
    pub capabilities: capabilities::Set,
    /// The lowest OOM score adjustment that a process may be given; -1000 with
    /// `CAP_SYS_RESOURCE`.
    pub lowest_oom_score_adj: i32,
    /// How many processors there can be.
    pub processors: u32,
    /// Whether pods can have user namespaces, as far as that could be tried.
    pub user_namespaces: bool,
}

/// What a container takes from its sandbox.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Bound to `/etc/hostname`.
    pub hostname_file: Option<PathBuf>,
    /// Bound to `/etc/hosts`.
    pub hosts_file: Option<PathBuf>,
    /// Bound to `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// Bound to `/dev/shm`.
    pub shm: Option<PathBuf>,
    /// Host name, for the environment.
    pub hostname: String,
    /// The process whose namespaces are the pod's, for those who read the spec.
    pub monitor_pid: u32,
    /// Where the network namespace is bound.
    pub netns: Option<PathBuf>,
    /// The container's cgroup.
    pub cgroup: PathBuf,
    /// Annotations of the spec.
    pub annotations: Map,
}

/// What an image says about its containers.
#[derive(Debug, Clone, Default)]
pub struct ImageDefaults {
    /// Environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Arguments.
    pub cmd: Vec<String>,
    /// Working directory.
    pub working_dir: String,
}

/// Who a container runs as, looked up in its image.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// A device of the host that a container gets.
#[derive(Debug, Clone)]
pub struct DeviceNode {
    /// The node as it appears in the container.
    pub node: LinuxDevice,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}
