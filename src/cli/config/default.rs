//! The defaults. Those of a module's own options are taken from there.

use std::path::Path;

use ipnet::IpNet;

use super::{
    CniConfig, Config, ContainersConfig, ImageConfig, MetricsConfig, NetworkConfig, RegistryConfig,
    SecurityConfig, StreamingConfig, TracingConfig,
};
use crate::{
    image, network,
    pod::{CgroupDriver, ImageVolumes},
    runtime::apparmor,
    streaming,
};

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/criquet".into(),
            state: "/run/criquet".into(),
            listen: "unix:///run/criquet/criquet.sock".to_owned(),
            log_level: "info".to_owned(),
            monitor_path: None,
            cgroup_driver: CgroupDriver::default(),
            cgroup_parent: "/criquet".into(),
            netns_dir: "/run/netns".into(),
            runtime_handlers: vec!["criquet".to_owned()],
            shm_size: 64 << 20,
            warm_monitors: 1,
            unprivileged_ports: true,
            writable_layer_limit: 0,
            containers: ContainersConfig::default(),
            security: SecurityConfig::default(),
            network: NetworkConfig::default(),
            cni: CniConfig::default(),
            image: ImageConfig::default(),
            registry: RegistryConfig::default(),
            streaming: StreamingConfig::default(),
            metrics: MetricsConfig::default(),
            tracing: TracingConfig::default(),
        }
    }
}

impl Default for ContainersConfig {
    fn default() -> Self {
        Self {
            image_volumes: ImageVolumes::default(),
            cdi_spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(Into::into).into(),
            blockio_config_file: None,
            default_env: Vec::new(),
            default_ulimits: Vec::new(),
            timezone: String::new(),
            passwd_entries: false,
            allowed_annotations: Vec::new(),
            log_rate: 0,
            log_burst: 0,
        }
    }
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self {
            apparmor_profile: apparmor::DEFAULT.to_owned(),
            seccomp_default: false,
            selinux: true,
            selinux_category_range: 1024,
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let options = network::Options::default();
        Self {
            builtin: options.builtin,
            bridge: options.bridge,
            subnet_v4: options.subnet_v4.and_then(|subnet| match subnet {
                IpNet::V4(subnet) => Some(subnet),
                IpNet::V6(_) => None,
            }),
            subnet_v6: options.subnet_v6.and_then(|subnet| match subnet {
                IpNet::V6(subnet) => Some(subnet),
                IpNet::V4(_) => None,
            }),
            masquerade: options.masquerade,
            mtu: options.mtu.unwrap_or(0),
            table: options.name_prefix,
            source_check: options.source_check,
            prefer: options.prefer.map_or("", network::Family::name).to_owned(),
        }
    }
}

impl Default for CniConfig {
    fn default() -> Self {
        let options = network::Options::default();
        Self {
            conf_dir: options.cni_conf_dir,
            bin_dirs: options.cni_bin_dirs,
            conf_template: options.cni_conf_template,
            cache_dir: options.cache_dir,
            max_conf: options.cni_max_conf,
            timeout: options.cni_timeout.as_secs(),
        }
    }
}

impl Default for ImageConfig {
    fn default() -> Self {
        let options = image::Options::new(Path::new(""));
        Self {
            root: None,
            max_parallel_downloads: options.max_parallel_downloads,
            max_parallel_ranges: options.max_parallel_ranges,
            large_layer: options.large_layer,
            signature_policy: options.signature_policy,
            signature_policy_dir: options.signature_policy_dir,
            progress_timeout: options.progress_timeout.as_secs(),
            min_rate: options.min_rate,
            pinned_images: Vec::new(),
        }
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            config_path: image::Options::new(Path::new("")).certs_dir,
            blocked: Vec::new(),
            insecure: Vec::new(),
            auth_files: Vec::new(),
        }
    }
}

impl Default for StreamingConfig {
    fn default() -> Self {
        let options = streaming::Options::default();
        Self {
            address: options.address,
            port: options.port,
            idle_timeout: options.idle_timeout.as_secs(),
            creation_timeout: options.creation_timeout.as_secs(),
            max_sessions: options.max_sessions,
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
        }
    }
}
