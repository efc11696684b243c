//! What a user asks for: sandboxes and containers in Criquet's own words.
//!
//! The shape is that of the CRI, so that nothing is lost on the way in or out; the types are
//! stored, so that fields are only ever added, with a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels, annotations and the like.
pub type Map = BTreeMap<String, String>;

/// Identity of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxMetadata {
    /// Name of the pod.
    pub name: String,
    /// Unique id of the pod.
    pub uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Counts the sandboxes of a pod.
    pub attempt: u32,
}

/// A sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// Identity.
    pub metadata: SandboxMetadata,
    /// Host name inside; empty for the host's.
    pub hostname: String,
    /// Where containers' logs go; absolute, or empty.
    pub log_directory: String,
    /// Name resolution; none for the host's.
    pub dns: Option<Dns>,
    /// Ports of the host that lead here.
    pub port_mappings: Vec<PortMapping>,
    /// For users.
    pub labels: Map,
    /// For tools.
    pub annotations: Map,
    /// The pod's cgroup; empty for Criquet's choice.
    pub cgroup_parent: String,
    /// Kernel settings of the pod's namespaces.
    pub sysctls: Map,
    /// Security settings.
    pub security: SandboxSecurity,
    /// Resources that the sandbox itself needs.
    pub overhead: Option<Resources>,
    /// Sum of the containers' resources.
    pub resources: Option<Resources>,
}

/// Content of `resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the pod.
    pub container_port: u16,
    /// Port of the host; 0 for none.
    pub host_port: u16,
    /// Address of the host; empty for all.
    pub host_ip: String,
}

/// Parts of an SELinux label that somebody asks for; empty ones are the node's business.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelinuxOptions {
    /// The SELinux user.
    pub user: String,
    /// The role.
    pub role: String,
    /// The type.
    pub kind: String,
    /// The level, such as `s0:c1,c2`.
    pub level: String,
}

/// Security settings of a sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSecurity {
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Whether privileged containers may join.
    pub privileged: bool,
    /// Whether the root filesystem of the sandbox itself is read-only; there is none.
    pub readonly_rootfs: bool,
    /// Labels of its containers.
    pub selinux: SelinuxOptions,
}

/// Whose namespace is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// Shared by the pod.
    #[default]
    Pod,
    /// The container's own.
    Container,
    /// The host's.
    Node,
    /// That of another container of the pod.
    Target,
}

/// Whose namespaces are used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Network.
    pub network: NamespaceMode,
    /// Processes.
    pub pid: NamespaceMode,
    /// System V IPC, POSIX message queues and `/dev/shm`.
    pub ipc: NamespaceMode,
    /// The container that mode `Target` means.
    pub target: String,
    /// A user namespace of the pod's own; none for the host's.
    pub users: Option<UserNamespace>,
}

/// A user namespace: ids from 0 on, each kind in one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// Users.
    pub uids: IdRange,
    /// Groups.
    pub gids: IdRange,
}

/// Where the ids of a user namespace are on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The id that 0 is on the host.
    pub host: u32,
    /// How many there are.
    pub count: u32,
}

/// Identity of a container in its sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// Name.
    pub name: String,
    /// Counts the containers of this name.
    pub attempt: u32,
}

/// How an image is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSpec {
    /// Reference, digest or id.
    pub image: String,
    /// For runtimes.
    pub annotations: Map,
    /// What the pod's author wrote.
    pub user_specified_image: String,
    /// The handler that the image is for.
    pub runtime_handler: String,
}

impl ImageSpec {
    /// The name that the pod's author wrote, where it is known: kubelets ask for images by
    /// their ids.
    pub fn as_the_user_knows_it(&self) -> &str {
        if self.user_specified_image.is_empty() { &self.image } else { &self.user_specified_image }
    }
}

/// A container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Identity.
    pub metadata: ContainerMetadata,
    /// Image.
    pub image: ImageSpec,
    /// Replaces the image's entry point.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: String,
    /// Environment, as text.
    pub envs: Vec<(String, String)>,
    /// The values among these that are not UTF-8.
    pub raw_envs: BTreeMap<String, Vec<u8>>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Devices by their CDI names.
    pub cdi_devices: Vec<String>,
    /// For users.
    pub labels: Map,
    /// For tools.
    pub annotations: Map,
    /// Relative to the sandbox's log directory; empty for no log.
    pub log_path: String,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close it after the first client.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// cgroup limits.
    pub resources: Option<Resources>,
    /// Security settings.
    pub security: ContainerSecurity,
    /// Signal that stops it, by name (`SIGUSR1`, `SIGRTMIN+3`); none for the image's.
    pub stop_signal: Option<String>,
}

/// How mounts made later travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// They do not.
    #[default]
    Private,
    /// Those of the host appear in the container (`rslave`).
    HostToContainer,
    /// In both directions (`rshared`).
    Bidirectional,
}

/// A bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where in the container.
    pub container_path: String,
    /// What of the host; empty where an image is mounted.
    pub host_path: String,
    /// An image that is mounted instead.
    pub image: Option<ImageVolume>,
    /// Read-only, but for mounts below it.
    pub readonly: bool,
    /// Relabel for SELinux.
    pub selinux_relabel: bool,
    /// How later mounts travel.
    pub propagation: Propagation,
    /// Read-only with all mounts below it.
    pub recursive_read_only: bool,
    /// More options, such as `noexec`.
    pub options: Vec<String>,
    /// Whether files belong to the users that their numbers mean in the container.
    pub idmapped: bool,
}

/// An image as a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageVolume {
    /// Which.
    pub image: ImageSpec,
    /// The part of it that is mounted; empty for all.
    pub sub_path: String,
    /// The id of the image that was found, known once the container is made.
    pub image_ref: String,
}

/// A device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where in the container.
    pub container_path: String,
    /// Where on the host.
    pub host_path: String,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// cgroup limits of a container. 0 and empty mean "not set".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds in each period; negative for no limit.
    pub cpu_quota: i64,
    /// Relative weight, 1024 being the default.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory_limit: i64,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// Processors, such as `0-2,7`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Page size (`2MB`) and bytes.
    pub hugepage_limits: Vec<(String, u64)>,
    /// Files of cgroup v2 and their values.
    pub unified: Map,
    /// Bytes of memory and swap together.
    pub memory_swap_limit: i64,
}

/// A profile of a security module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// The runtime's own.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A file (seccomp) or a loaded profile (AppArmor).
    Localhost(String),
}

/// Which of the image's groups count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// Those of the image as well.
    #[default]
    Merge,
    /// Only those that the container names.
    Strict,
}

/// Who a container runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunAs {
    /// By number.
    Uid(u32),
    /// By name in the image's user database.
    Username(String),
}

/// Security settings of a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSecurity {
    /// Capabilities to add, without `CAP_`; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop; dropping comes before adding.
    pub drop_capabilities: Vec<String>,
    /// Capabilities that a program keeps without being root or setuid.
    pub add_ambient_capabilities: Vec<String>,
    /// All capabilities and devices, no profiles, no masked paths.
    pub privileged: bool,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// User; none for the image's.
    pub run_as: Option<RunAs>,
    /// Group; none for the user's.
    pub run_as_group: Option<u32>,
    /// Make the root filesystem read-only.
    pub readonly_rootfs: bool,
    /// More groups.
    pub supplemental_groups: Vec<u32>,
    /// Which of the image's groups count.
    pub groups_policy: GroupsPolicy,
    /// Set `no_new_privs`.
    pub no_new_privs: bool,
    /// Whether nothing is said about security, so that the default masks hold. Whoever says
    /// something names the masks as well: the kubelet does, and for an unmasked `/proc` it
    /// names none.
    pub default_masks: bool,
    /// Paths that cannot be seen.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// Filter of system calls; none for unconfined.
    pub seccomp: Option<Profile>,
    /// AppArmor profile; none for the node's default.
    pub apparmor: Option<Profile>,
    /// Its labels, before those of the sandbox.
    pub selinux: SelinuxOptions,
}
