//! From the configuration to the options of each module.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Config, Error, TracingConfig};
use crate::{
    cli::serve,
    image::{self, NamePattern},
    network,
    pod::{self, AllowedAnnotations},
    spec::ulimit::Ulimit,
    streaming,
    telemetry::{
        TracingOptions,
        endpoint::{self, Listen},
    },
    tls::TlsFiles,
};

/// Where packages put the monitor.
const MONITOR: &str = "/usr/libexec/criquet/criquet-monitor";

impl Config {
    /// What the daemon is started with.
    ///
    /// # Errors
    /// When there is no monitor.
    pub fn settings(&self) -> Result<serve::Settings, Error> {
        Ok(serve::Settings {
            listen: self.socket().to_owned(),
            monitor: self.monitor_program()?,
            pods: self.pod_options(),
            network: self.network_options(),
            images: self.image_options(),
            streaming: self.streaming_options(),
            metrics: self.metrics_options(),
            tracing: self.tracing_options(),
            user_namespaces: false,
        })
    }

    /// Pods.
    pub fn pod_options(&self) -> pod::Options {
        pod::Options {
            root: self.root.clone(),
            state: self.state.clone(),
            netns_dir: self.netns_dir.clone(),
            cgroup_driver: self.cgroup_driver,
            cgroup_parent: self.cgroup_parent.clone(),
            rules: self.pod_rules(),
            shm_size: self.shm_size,
            warm_monitors: self.warm_monitors,
            unprivileged_ports: self.unprivileged_ports,
            writable_layer_limit: self.writable_layer_limit,
            selinux: self.security.selinux,
            selinux_category_range: self.security.selinux_category_range,
            containers: self.container_options(),
        }
    }

    /// What is decided about pods, and may change while the daemon runs.
    pub fn pod_rules(&self) -> pod::Rules {
        pod::Rules {
            handlers: self.runtime_handlers.clone(),
            cdi_spec_dirs: self.containers.cdi_spec_dirs.clone(),
            apparmor_profile: self.security.apparmor_profile.clone(),
            seccomp_default: self.security.seccomp_default,
        }
    }

    /// Containers. Texts that [`Config::validate`] finds fault with are left out.
    pub fn container_options(&self) -> pod::ContainerOptions {
        let containers = &self.containers;
        let variables = containers.default_env.iter().filter_map(|text| text.split_once('='));
        let limits = containers.default_ulimits.iter();
        pod::ContainerOptions {
            image_volumes: containers.image_volumes,
            blockio_config_file: containers.blockio_config_file.clone(),
            default_env: variables.map(|(name, value)| (name.into(), value.into())).collect(),
            default_ulimits: limits.filter_map(|text| Ulimit::parse(text).ok()).collect(),
            timezone: self.timezone_file(),
            passwd_entries: containers.passwd_entries,
            allowed_annotations: AllowedAnnotations(containers.allowed_annotations.clone()),
            log_rate: containers.log_rate,
            log_burst: containers.log_burst,
        }
    }

    /// The file of the time zone of containers; none for the image's.
    pub(super) fn timezone_file(&self) -> Option<PathBuf> {
        match self.containers.timezone.as_str() {
            "" => None,
            "Local" => Some("/etc/localtime".into()),
            name => Some(Path::new("/usr/share/zoneinfo").join(name)),
        }
    }

    /// Networks.
    pub fn network_options(&self) -> network::Options {
        let (network, cni) = (&self.network, &self.cni);
        network::Options {
            root: self.root.clone(),
            builtin: network.builtin,
            bridge: network.bridge.clone(),
            subnet_v4: network.subnet_v4.map(Into::into),
            subnet_v6: network.subnet_v6.map(Into::into),
            masquerade: network.masquerade,
            mtu: (network.mtu != 0).then_some(network.mtu),
            name_prefix: network.table.clone(),
            source_check: network.source_check,
            prefer: network::Family::of_name(&network.prefer),
            cni_conf_dir: cni.conf_dir.clone(),
            cni_bin_dirs: cni.bin_dirs.clone(),
            cni_max_conf: cni.max_conf,
            cni_conf_template: cni.conf_template.clone(),
            cache_dir: cni.cache_dir.clone(),
            cni_timeout: Duration::from_secs(cni.timeout),
        }
    }

    /// Images.
    pub fn image_options(&self) -> image::Options {
        image::Options {
            root: self.image.root.clone().unwrap_or_else(|| self.root.join("images")),
            certs_dir: self.registry.config_path.clone(),
            signature_policy: self.image.signature_policy.clone(),
            signature_policy_dir: self.image.signature_policy_dir.clone(),
            max_parallel_downloads: self.image.max_parallel_downloads,
            max_parallel_ranges: self.image.max_parallel_ranges,
            large_layer: self.image.large_layer,
            progress_timeout: Duration::from_secs(self.image.progress_timeout),
            min_rate: self.image.min_rate,
            decompressor: Some(PathBuf::from("/proc/self/exe")),
            rules: self.image_rules(),
        }
    }

    /// What is allowed about images, and may change while the daemon runs. Patterns that
    /// [`Config::validate`] finds fault with are left out.
    pub fn image_rules(&self) -> image::Rules {
        let patterns =
            |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect();
        image::Rules {
            blocked: patterns(&self.registry.blocked),
            insecure: patterns(&self.registry.insecure),
            pinned: self.image.pinned_images.iter().map(|name| NamePattern::new(name)).collect(),
            auth_files: self.registry.auth_files.clone(),
        }
    }

    /// Streams.
    pub fn streaming_options(&self) -> streaming::Options {
        let streaming = &self.streaming;
        let tls = tls_files(
            &streaming.tls_cert_file,
            &streaming.tls_key_file,
            &streaming.tls_client_ca_file,
        );
        streaming::Options {
            address: streaming.address,
            port: streaming.port,
            idle_timeout: Duration::from_secs(streaming.idle_timeout),
            creation_timeout: Duration::from_secs(streaming.creation_timeout),
            max_sessions: streaming.max_sessions,
            tls,
        }
    }

    /// Figures; none where nobody is to get them.
    pub fn metrics_options(&self) -> Option<endpoint::Options> {
        let metrics = &self.metrics;
        let listen = match metrics.listen.strip_prefix("unix://") {
            Some(path) => Listen::Socket(path.into()),
            // Anything else is found fault with before.
            None => Listen::Address(metrics.listen.parse().ok()?),
        };
        let tls =
            tls_files(&metrics.tls_cert_file, &metrics.tls_key_file, &metrics.tls_client_ca_file);
        Some(endpoint::Options { listen, tls })
    }

    /// Traces; none where nobody is to get them.
    pub fn tracing_options(&self) -> Option<TracingOptions> {
        let TracingConfig { endpoint, sampling_rate_per_million } = self.tracing.clone();
        (!endpoint.is_empty()).then_some(TracingOptions { endpoint, sampling_rate_per_million })
    }

    /// The monitor: the configured one, or that beside the running program, or the packaged.
    ///
    /// # Errors
    /// When there is none.
    pub fn monitor_program(&self) -> Result<PathBuf, Error> {
        if let Some(path) = &self.monitor_path {
            return Ok(path.clone());
        }
        let beside = std::env::current_exe().ok().map(|p| p.with_file_name("criquet-monitor"));
        let packaged = PathBuf::from(MONITOR);
        beside
            .into_iter()
            .chain([packaged])
            .find(|path| path.is_file())
            .ok_or_else(|| Error::NoMonitor { path: Path::new(MONITOR).to_owned() })
    }
}

/// Files for TLS, where there are a certificate and a key.
fn tls_files(
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
    client_authorities: &Option<PathBuf>,
) -> Option<TlsFiles> {
    Some(TlsFiles {
        certificate: certificate.clone()?,
        key: key.clone()?,
        client_authorities: client_authorities.clone(),
    })
}
