//! What is wrong with values of the right type.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Component, Path, PathBuf},
};

use tracing_subscriber::EnvFilter;

use super::{Config, Problem};
use crate::{image::RegistryPattern, pod::allowed, spec::ulimit::Ulimit};

/// The longest path of a socket, `sun_path` without its zero byte.
const SOCKET_PATH: usize = 107;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Everything that is wrong, in the order of the keys.
pub(super) fn validate(config: &Config) -> Vec<Problem> {
    let mut checks = Checks::default();
    checks.places(config);
    checks.listen(config);
    checks.log_level(&config.log_level);
    checks.handlers(&config.runtime_handlers);
    if !(4096..=i64::MAX as u64).contains(&config.shm_size) {
        checks.fail("shm_size", "must be at least 4096 bytes, one page");
    }
    if config.warm_monitors > 100 {
        checks.fail("warm_monitors", "must be at most 100; each is a process that waits");
    }
    checks.containers(config);
    checks.security(config);
    checks.network(config);
    checks.cni(config);
    checks.image(config);
    checks.registry(config);
    checks.streaming(config);
    checks.metrics(config);
    checks.tracing(config);
    checks.problems
}

#[derive(Default)]
struct Checks {
    problems: Vec<Problem>,
}

impl Checks {
    fn fail(&mut self, key: &str, reason: impl Into<String>) {
        self.problems.push(Problem::new(key, reason));
    }

    fn absolute(&mut self, key: &str, path: &Path) {
        let plain = path
            .components()
            .all(|component| matches!(component, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain {
            self.fail(key, format!("{path:?} must be an absolute path without \"..\""));
        } else if path.parent().is_none() {
            self.fail(key, "must be a directory of its own, not \"/\"");
        }
    }

    fn places(&mut self, config: &Config) {
        self.absolute("root", &config.root);
        if let Some(root) = &config.image.root {
            self.absolute("image.root", root);
            if root == &config.root || root.starts_with(&config.state) {
                let reason = format!("{root:?} must be neither root nor below state");
                self.fail("image.root", reason);
            }
        }
        self.absolute("state", &config.state);
        if config.root.starts_with(&config.state) || config.state.starts_with(&config.root) {
            let reason = format!(
                "{:?} and root, {:?}, must not lie one in the other: root outlives a reboot, \
                 state does not",
                config.state, config.root
            );
            self.fail("state", reason);
        }
        if let Some(path) = &config.monitor_path {
            self.absolute("monitor_path", path);
        }
        self.absolute("cgroup_parent", &config.cgroup_parent);
        self.absolute("netns_dir", &config.netns_dir);
    }

    fn listen(&mut self, config: &Config) {
        match config.listen.strip_prefix("unix://") {
            Some(path) => self.socket("listen", path),
            None => self.socket("listen", ""),
        }
    }

    fn socket(&mut self, key: &str, path: &str) {
        if path.len() > SOCKET_PATH {
            let reason = format!(
                "the path has {} bytes and the kernel takes {SOCKET_PATH}; use a shorter one",
                path.len()
            );
            self.fail(key, reason);
        } else if !path.starts_with('/') || path.ends_with('/') {
            let reason =
                "must be unix:// and an absolute path, as in unix:///run/criquet/criquet.sock";
            self.fail(key, reason);
        }
    }

    fn log_level(&mut self, level: &str) {
        let is_directive = level.contains(['=', ',']);
        if LEVELS.contains(&level) || is_directive && EnvFilter::try_new(level).is_ok() {
            return;
        }
        let reason = format!(
            "{level:?} is none of {}, and no list such as \"info,criquet::image=debug\"",
            LEVELS.join(", ")
        );
        self.fail("log_level", reason);
    }

    fn handlers(&mut self, handlers: &[String]) {
        let key = "runtime_handlers";
        let is_label = |name: &&String| {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            (1..=63).contains(&name.len())
                && name.chars().all(allowed)
                && !name.starts_with('-')
                && !name.ends_with('-')
        };
        for name in handlers.iter().filter(|name| !is_label(name)) {
            let rule = "made of small letters, digits and '-' within, as in a RuntimeClass";
            self.fail(key, format!("{name:?} must be {rule}"));
        }
        if handlers.iter().collect::<BTreeSet<_>>().len() != handlers.len() {
            self.fail(key, "name each handler once");
        }
    }

    fn containers(&mut self, config: &Config) {
        let containers = &config.containers;
        for directory in &containers.cdi_spec_dirs {
            self.absolute("containers.cdi_spec_dirs", directory);
        }
        if let Some(file) = &containers.blockio_config_file {
            self.absolute("containers.blockio_config_file", file);
        }
        for variable in &containers.default_env {
            if variable.find('=').is_none_or(|at| at == 0) || variable.contains('\0') {
                self.fail("containers.default_env", format!("{variable:?} must be NAME=VALUE"));
            }
        }
        for limit in &containers.default_ulimits {
            if let Err(reason) = Ulimit::parse(limit) {
                self.fail("containers.default_ulimits", reason);
            }
        }
        let plain = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_)));
        let zone = &containers.timezone;
        let is_file = config.timezone_file().is_none_or(|path| path.is_file());
        if !plain(Path::new(zone)) || !is_file {
            let reason = format!(
                "{zone:?} is no file below /usr/share/zoneinfo; write a name such as \
                 \"Europe/Paris\", or \"Local\" for that of this node"
            );
            self.fail("containers.timezone", reason);
        }
        let known: Vec<&str> = allowed::names().collect();
        for name in &containers.allowed_annotations {
            if !known.contains(&name.as_str()) {
                let reason = format!("{name:?} is none of {}", known.join(", "));
                self.fail("containers.allowed_annotations", reason);
            }
        }
    }

    fn security(&mut self, config: &Config) {
        let profile = &config.security.apparmor_profile;
        // What the kernel takes for a list, or a mode, is no name.
        if profile.is_empty() || profile.len() > 255 || profile.contains(|c: char| c.is_control()) {
            let reason = "must be the name of a profile, or \"unconfined\" for none";
            self.fail("security.apparmor_profile", reason);
        }
        if !(2..=1024).contains(&config.security.selinux_category_range) {
            let reason = "must be 2 to 1024, the number of categories that a policy has";
            self.fail("security.selinux_category_range", reason);
        }
    }

    fn network(&mut self, config: &Config) {
        let network = &config.network;
        let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
        let bridge = &network.bridge;
        let fits = (1..=15).contains(&bridge.len()) && !bridge.starts_with('.');
        if !fits || !bridge.chars().all(allowed) {
            let rule = "1 to 15 characters, no space, '/', ':' or '%', and no dot first";
            self.fail("network.bridge", format!("a device's name has {rule}"));
        }
        self.subnets(config);
        if network.mtu != 0 && !(1280..=65535).contains(&network.mtu) {
            self.fail("network.mtu", "must be 1280 to 65535, or 0 for that of the uplink");
        }
        let table = &network.table;
        let printable = table.chars().all(|c| c.is_ascii_graphic());
        if !(1..=200).contains(&table.len()) || !printable {
            let rule = "1 to 200 letters, digits and signs";
            self.fail("network.table", format!("a table's name has {rule}"));
        }
        if !matches!(network.prefer.as_str(), "" | "ipv4" | "ipv6") {
            let reason = "must be \"ipv4\", \"ipv6\", or empty for the order of the network";
            self.fail("network.prefer", reason);
        }
    }

    fn subnets(&mut self, config: &Config) {
        let network = &config.network;
        let room = "must have room for a gateway and a pod";
        match network.subnet_v4 {
            None if network.subnet_v6.is_none() => {
                let reason = "must be there, or else network.subnet_v6; set network.builtin = \
                              false for no network";
                self.fail("network.subnet_v4", reason);
            }
            Some(v4) if v4.prefix_len() > 30 || v4.prefix_len() < 8 => {
                self.fail("network.subnet_v4", format!("{room}; use a prefix of 8 to 30 bits"));
            }
            Some(v4) if v4.trunc() != v4 => {
                let reason = format!("{v4} has bits behind its prefix; write {}", v4.trunc());
                self.fail("network.subnet_v4", reason);
            }
            _ => {}
        }
        let Some(v6) = network.subnet_v6 else { return };
        if v6.prefix_len() > 126 || v6.prefix_len() < 16 {
            self.fail("network.subnet_v6", format!("{room}; use a prefix of 16 to 126 bits"));
        } else if v6.trunc() != v6 {
            let reason = format!("{v6} has bits behind its prefix; write {}", v6.trunc());
            self.fail("network.subnet_v6", reason);
        }
    }

    fn cni(&mut self, config: &Config) {
        self.absolute("cni.conf_dir", &config.cni.conf_dir);
        self.absolute("cni.cache_dir", &config.cni.cache_dir);
        if let Some(template) = &config.cni.conf_template {
            self.absolute("cni.conf_template", template);
        }
        for directory in &config.cni.bin_dirs {
            self.absolute("cni.bin_dirs", directory);
        }
        if config.cni.bin_dirs.is_empty() {
            self.fail("cni.bin_dirs", "must name at least one directory");
        }
        if !(1..=3600).contains(&config.cni.timeout) {
            self.fail("cni.timeout", "must be 1 to 3600 seconds");
        }
    }

    fn image(&mut self, config: &Config) {
        if !(1..=64).contains(&config.image.max_parallel_downloads) {
            self.fail("image.max_parallel_downloads", "must be 1 to 64");
        }
        if !(1..=64).contains(&config.image.max_parallel_ranges) {
            self.fail("image.max_parallel_ranges", "must be 1 to 64");
        }
        if !((1 << 20)..=i64::MAX as u64).contains(&config.image.large_layer) {
            self.fail("image.large_layer", "must be at least 1MiB, the least that is recorded");
        }
        if !(1..=86400).contains(&config.image.progress_timeout) {
            self.fail("image.progress_timeout", "must be 1 to 86400 seconds");
        }
    }

    fn registry(&mut self, config: &Config) {
        let registry = &config.registry;
        self.absolute("registry.config_path", &registry.config_path);
        for (key, patterns) in
            [("registry.blocked", &registry.blocked), ("registry.insecure", &registry.insecure)]
        {
            for pattern in patterns {
                if let Err(error) = pattern.parse::<RegistryPattern>() {
                    self.fail(key, error.to_string());
                }
            }
        }
        for path in &registry.auth_files {
            self.absolute("registry.auth_files", path);
        }
    }

    fn streaming(&mut self, config: &Config) {
        let streaming = &config.streaming;
        let times = [
            ("streaming.idle_timeout", streaming.idle_timeout),
            ("streaming.creation_timeout", streaming.creation_timeout),
        ];
        for (key, seconds) in times {
            if !(1..=30 * 86400).contains(&seconds) {
                self.fail(key, "must be 1 to 2592000 seconds, 30 days");
            }
        }
        if !(1..=100_000).contains(&streaming.max_sessions) {
            self.fail("streaming.max_sessions", "must be 1 to 100000");
        }
        let files =
            [&streaming.tls_cert_file, &streaming.tls_key_file, &streaming.tls_client_ca_file];
        self.tls("streaming", files);
    }

    /// A certificate, its key, and authorities of clients.
    fn tls(&mut self, table: &str, files: [&Option<PathBuf>; 3]) {
        let [certificate, key, authorities] = files;
        if certificate.is_some() != key.is_some() {
            let reason = "tls_cert_file and tls_key_file belong together; set both, or none";
            self.fail(&format!("{table}.tls_cert_file"), reason);
        }
        if authorities.is_some() && certificate.is_none() {
            let reason = "needs tls_cert_file and tls_key_file: plain HTTP knows no certificates";
            self.fail(&format!("{table}.tls_client_ca_file"), reason);
        }
        let names = ["tls_cert_file", "tls_key_file", "tls_client_ca_file"];
        for (name, path) in names.iter().zip(files) {
            if let Some(path) = path {
                self.absolute(&format!("{table}.{name}"), path);
            }
        }
    }

    fn metrics(&mut self, config: &Config) {
        let metrics = &config.metrics;
        self.tls(
            "metrics",
            [&metrics.tls_cert_file, &metrics.tls_key_file, &metrics.tls_client_ca_file],
        );
        let listen = metrics.listen.as_str();
        let has_tls = metrics.tls_cert_file.is_some();
        let key = "metrics.listen";
        match listen.strip_prefix("unix://") {
            _ if listen.is_empty() => {}
            Some(_) if has_tls => self.fail(key, "a Unix socket has no TLS; leave it out"),
            Some(_) if listen == config.listen => {
                self.fail(key, "is the socket of the CRI; name another one");
            }
            Some(path) => self.socket(key, path),
            None => match listen.parse::<SocketAddr>() {
                Ok(address) if has_tls || address.ip().is_loopback() => {}
                Ok(address) => {
                    let reason = format!(
                        "{address} can be reached by others; set tls_cert_file and tls_key_file, \
                         or use a loopback address"
                    );
                    self.fail(key, reason);
                }
                Err(_) => {
                    let reason = "must be unix:// and an absolute path, or an address and a port, \
                                  as in 127.0.0.1:9537";
                    self.fail(key, reason);
                }
            },
        }
    }

    fn tracing(&mut self, config: &Config) {
        let tracing = &config.tracing;
        let uri = tracing.endpoint.parse::<http::Uri>();
        let is_address = uri.is_ok_and(|uri| {
            uri.scheme_str() == Some("http") && uri.port_u16().is_some() && uri.path() == "/"
        });
        if !tracing.endpoint.is_empty() && !is_address {
            let reason = format!(
                "{:?} must be http://HOST:PORT of a collector that speaks OTLP over gRPC, \
                 without TLS and therefore best on this node",
                tracing.endpoint
            );
            self.fail("tracing.endpoint", reason);
        }
        if tracing.sampling_rate_per_million > 1_000_000 {
            self.fail("tracing.sampling_rate_per_million", "must be at most 1000000, for all");
        }
    }
}
