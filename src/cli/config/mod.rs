//! The configuration: what an administrator decides about this node.
//!
//! Entry point: [`Config::load`]. Every key has a default, so that no file is needed. A file
//! and its drop-ins are laid over the defaults key by key; everything that is wrong in any of
//! them is reported at once, with its file, line and column, before anything starts.

mod command;
mod default;
mod error;
mod file;
mod load;
mod options;
mod reload;
#[cfg(test)]
mod tests;
mod validate;
mod value;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::pod::{CgroupDriver, ImageVolumes};

pub(super) use command::command;
pub use error::{Error, Place, Problem, Problems};
pub use load::Overrides;
pub use reload::{Change, Changes, RELOADED};

/// Where the configuration is unless the command line names another place.
pub const DEFAULT_FILE: &str = "/etc/criquet/config.toml";

/// The default configuration with an explanation of each key.
pub const SAMPLE: &str = include_str!("../../../deploy/config.toml");

/// Everything that can be configured. `deploy/config.toml` explains the keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Durable state.
    pub root: PathBuf,
    /// State that a reboot takes away.
    pub state: PathBuf,
    /// `unix://` and the path of the socket that the CRI is served on.
    pub listen: String,
    /// The least important messages that are logged, or directives for single modules.
    pub log_level: String,
    /// The program that supervises a pod; none to look for it.
    #[serde(with = "value::optional_path")]
    pub monitor_path: Option<PathBuf>,
    /// Who makes the cgroups of pods.
    pub cgroup_driver: CgroupDriver,
    /// The cgroup of pods that name no parent; with systemd the slice that is named after it.
    pub cgroup_parent: PathBuf,
    /// Where network namespaces are bound.
    pub netns_dir: PathBuf,
    /// Runtime handlers, besides the unnamed one.
    pub runtime_handlers: Vec<String>,
    /// `/dev/shm` of a pod, in bytes.
    #[serde(deserialize_with = "value::size")]
    pub shm_size: u64,
    /// Monitors that are kept ready for pods to come, of each kind.
    pub warm_monitors: usize,
    /// Whether every user of a pod may use ports below 1024 and send pings.
    pub unprivileged_ports: bool,
    /// What a container may write to its layer, in bytes; 0 for any number.
    #[serde(deserialize_with = "value::size")]
    pub writable_layer_limit: u64,
    /// Containers.
    pub containers: ContainersConfig,
    /// What keeps containers in.
    pub security: SecurityConfig,
    /// The built-in network.
    pub network: NetworkConfig,
    /// Networks of CNI plugins.
    pub cni: CniConfig,
    /// Pulls of images.
    pub image: ImageConfig,
    /// Registries.
    pub registry: RegistryConfig,
    /// Streams of exec, attach and port forwarding.
    pub streaming: StreamingConfig,
    /// Figures for Prometheus.
    pub metrics: MetricsConfig,
    /// Traces over OTLP.
    pub tracing: TracingConfig,
}

/// `[containers]`: what containers get besides what is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainersConfig {
    /// What becomes of volumes that images declare.
    pub image_volumes: ImageVolumes,
    /// Directories of CDI specifications.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// The file of classes of block I/O; none for none.
    #[serde(with = "value::optional_path")]
    pub blockio_config_file: Option<PathBuf>,
    /// `NAME=VALUE` of every container, unless it or its image says something else.
    pub default_env: Vec<String>,
    /// `NAME=SOFT:HARD`: limits of processes.
    pub default_ulimits: Vec<String>,
    /// A name of the time zone database, `Local` for that of the host, or empty.
    pub timezone: String,
    /// Whether users that an image does not know get a line in `/etc/passwd`.
    pub passwd_entries: bool,
    /// Annotations of pods that may ask for more.
    pub allowed_annotations: Vec<String>,
    /// Bytes a second that a container may write to its log; 0 for any number.
    #[serde(deserialize_with = "value::size")]
    pub log_rate: u64,
    /// Bytes that may come at once; 0 for ten seconds' worth.
    #[serde(deserialize_with = "value::size")]
    pub log_burst: u64,
}

/// `[security]`: what keeps containers in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfig {
    /// The AppArmor profile of containers that name none; `unconfined` for none.
    pub apparmor_profile: String,
    /// Whether containers that say nothing about system calls get the default filter.
    pub seccomp_default: bool,
    /// Whether containers get labels where the kernel has SELinux.
    pub selinux: bool,
    /// The categories of levels are below this number.
    pub selinux_category_range: u32,
}

/// `[network]`: the built-in network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Whether pods get it where no CNI network is configured.
    pub builtin: bool,
    /// The name of its bridge.
    pub bridge: String,
    /// The subnet of its IPv4 addresses; none for a network without.
    #[serde(with = "value::subnet_v4")]
    pub subnet_v4: Option<Ipv4Net>,
    /// The subnet of its IPv6 addresses; none for a network without.
    #[serde(with = "value::subnet_v6")]
    pub subnet_v6: Option<Ipv6Net>,
    /// Whether pods appear to other machines with the address of the host.
    pub masquerade: bool,
    /// The largest packet; 0 for that of the uplink.
    pub mtu: u32,
    /// The name of its nftables table.
    pub table: String,
    /// Whether pods can only send what has their own addresses as its source.
    pub source_check: bool,
    /// The family of a pod's first address, also where plugins give it: `ipv4`, `ipv6`, or
    /// empty for the order in which they come.
    pub prefer: String,
}

/// `[cni]`: networks of CNI plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CniConfig {
    /// The directory of network configurations.
    pub conf_dir: PathBuf,
    /// The directories of plugins, in the order of search.
    pub bin_dirs: Vec<PathBuf>,
    /// What the configuration is made of when Kubernetes tells the node its subnets; none
    /// where it comes from elsewhere.
    #[serde(with = "value::optional_path")]
    pub conf_template: Option<PathBuf>,
    /// Where the results of plugins are kept for other programs.
    pub cache_dir: PathBuf,
    /// How many networks a pod gets at most; 0 for all.
    pub max_conf: usize,
    /// How many seconds one plugin may take.
    pub timeout: u64,
}

/// `[image]`: pulls of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// Where images are, which may be another disk; none for `images` below the root.
    #[serde(with = "value::optional_path")]
    pub root: Option<PathBuf>,
    /// Layers of one image that are downloaded side by side.
    pub max_parallel_downloads: usize,
    /// Ranges of one large layer that are downloaded side by side.
    pub max_parallel_ranges: usize,
    /// From how many bytes on a layer is large.
    #[serde(deserialize_with = "value::size")]
    pub large_layer: u64,
    /// Which images are let in: a file of containers-policy.json(5); none to let all in.
    #[serde(with = "value::optional_path")]
    pub signature_policy: Option<PathBuf>,
    /// Policies of single namespaces, before the one above.
    #[serde(with = "value::optional_path")]
    pub signature_policy_dir: Option<PathBuf>,
    /// After how many seconds without a byte a download has failed.
    pub progress_timeout: u64,
    /// With how many bytes a second, over that time, a download has failed as well; 0 for none.
    #[serde(deserialize_with = "value::size")]
    pub min_rate: u64,
    /// Names of images that garbage collection passes over, perhaps with `*`.
    pub pinned_images: Vec<String>,
}

/// `[registry]`: registries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// The tree of `HOST/hosts.toml` files.
    pub config_path: PathBuf,
    /// Registries that nothing is pulled from.
    pub blocked: Vec<String>,
    /// Registries that need no known certificate, nor TLS at all.
    pub insecure: Vec<String>,
    /// Docker's files of credentials.
    pub auth_files: Vec<PathBuf>,
}

/// `[streaming]`: streams of exec, attach and port forwarding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamingConfig {
    /// Where the server listens.
    pub address: IpAddr,
    /// 0 for any port that is free.
    pub port: u16,
    /// After how many seconds without a byte a session ends.
    pub idle_timeout: u64,
    /// How many seconds a client has to open its streams.
    pub creation_timeout: u64,
    /// How many sessions there are at one time.
    pub max_sessions: usize,
    /// The certificate, which turns TLS on; none for plain HTTP.
    #[serde(with = "value::optional_path")]
    pub tls_cert_file: Option<PathBuf>,
    /// The certificate's key.
    #[serde(with = "value::optional_path")]
    pub tls_key_file: Option<PathBuf>,
    /// Authorities that clients need a certificate of; none to ask for none.
    #[serde(with = "value::optional_path")]
    pub tls_client_ca_file: Option<PathBuf>,
}

/// `[metrics]`: figures for Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// `unix://` and the path of a socket, or an address and a port; empty for none.
    pub listen: String,
    /// The certificate, which turns TLS on; none for plain HTTP.
    #[serde(with = "value::optional_path")]
    pub tls_cert_file: Option<PathBuf>,
    /// The certificate's key.
    #[serde(with = "value::optional_path")]
    pub tls_key_file: Option<PathBuf>,
    /// Authorities that clients need a certificate of; none to ask for none.
    #[serde(with = "value::optional_path")]
    pub tls_client_ca_file: Option<PathBuf>,
}

/// `[tracing]`: traces over OTLP.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// `http://HOST:PORT` of a collector that speaks OTLP over gRPC; empty for none.
    pub endpoint: String,
    /// Of a million calls that come without a trace, how many begin one.
    pub sampling_rate_per_million: u32,
}

impl Config {
    /// The configuration of a file, or of the default one, with its drop-ins.
    ///
    /// # Errors
    /// Everything that is wrong in it, or a named file that cannot be read.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        Self::load_with(file, &Overrides::default())
    }

    /// The same with what the command line decides instead.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn load_with(file: Option<&Path>, overrides: &Overrides) -> Result<Self, Error> {
        load::load(file, overrides)
    }

    /// What is wrong with the values, whatever file they come from.
    pub fn validate(&self) -> Vec<Problem> {
        validate::validate(self)
    }

    /// The path of the socket in `listen`.
    pub fn socket(&self) -> &Path {
        Path::new(self.listen.strip_prefix("unix://").unwrap_or(&self.listen))
    }
}
