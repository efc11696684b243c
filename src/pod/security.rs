//! Security settings: what is refused, and filters of system calls.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    container::Container,
    error::{During, Error, Reason},
};
use crate::{
    runtime::seccomp,
    spec::{
        self,
        config::{ContainerConfig, NamespaceMode, Profile, SandboxConfig},
    },
    sys::seccomp::to_bytes,
};

/// Checks what a sandbox may ask for.
pub(super) fn check_sandbox(config: &SandboxConfig) -> Result<(), spec::Error> {
    let modes = &config.security.namespaces;
    for (field, mode) in
        [("namespace_options.network", modes.network), ("namespace_options.ipc", modes.ipc)]
    {
        if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
            return Err(spec::Error::invalid(field, "must be POD or NODE"));
        }
    }
    if modes.pid == NamespaceMode::Target {
        let reason = "must be POD, CONTAINER or NODE for a sandbox";
        return Err(spec::Error::invalid("namespace_options.pid", reason));
    }
    for mapping in &config.port_mappings {
        let ip = &mapping.host_ip;
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            let reason = format!("{ip:?} is not an IP address");
            return Err(spec::Error::invalid("port_mappings.host_ip", reason));
        }
    }
    config.sysctls.keys().try_for_each(|name| check_sysctl(name, config))
}

/// Only settings that belong to a namespace of the pod's own; any other is the host's.
fn check_sysctl(name: &str, config: &SandboxConfig) -> Result<(), spec::Error> {
    const OF_IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let field = "linux.sysctls";
    let dotted = name.replace('/', ".");
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    if !plain || dotted.contains("..") || dotted.starts_with('.') {
        return Err(spec::Error::invalid(field, format!("{name:?} is not the name of a sysctl")));
    }
    let modes = &config.security.namespaces;
    let (own, whose) = if dotted.starts_with("net.") {
        (modes.network != NamespaceMode::Node, "network")
    } else if OF_IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        (modes.ipc != NamespaceMode::Node, "IPC")
    } else {
        let reason = format!("{name} belongs to no namespace of a pod; set it on the node");
        return Err(spec::Error::invalid(field, reason));
    };
    if own {
        return Ok(());
    }
    let reason = format!("{name} would change the host, whose {whose} namespace the pod shares");
    Err(spec::Error::invalid(field, reason))
}

/// Checks what a container may ask for in its sandbox.
pub(super) fn check_container(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
) -> Result<(), spec::Error> {
    let security = &config.security;
    if security.privileged && !sandbox.security.privileged {
        let reason = "a privileged container needs a privileged sandbox";
        return Err(spec::Error::invalid("security_context.privileged", reason));
    }
    let (modes, of_sandbox) = (&security.namespaces, &sandbox.security.namespaces);
    for (field, mode, expected) in [
        ("namespace_options.network", modes.network, of_sandbox.network),
        ("namespace_options.ipc", modes.ipc, of_sandbox.ipc),
    ] {
        // POD is what a request has that says nothing, and means that of the sandbox.
        if mode == NamespaceMode::Node && expected != NamespaceMode::Node {
            let reason = format!("is {mode:?}, and that of the sandbox is {expected:?}");
            return Err(spec::Error::invalid(field, reason));
        }
    }
    if modes.pid == NamespaceMode::Pod && of_sandbox.pid != NamespaceMode::Pod {
        let reason = "is POD, and the sandbox was made without a PID namespace of its own";
        return Err(spec::Error::invalid("namespace_options.pid", reason));
    }
    Ok(())
}

/// Gives a container the namespaces that all containers of its sandbox share.
pub(super) fn share_namespaces(sandbox: &SandboxConfig, config: &mut ContainerConfig) {
    let (modes, of_sandbox) = (&mut config.security.namespaces, &sandbox.security.namespaces);
    (modes.network, modes.ipc) = (of_sandbox.network, of_sandbox.ipc);
}

/// The AppArmor profile to apply; none for unconfined.
pub(super) fn apparmor_profile(config: &ContainerConfig) -> Result<Option<String>, Error> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim() == "Y");
    let field = "security_context.apparmor";
    match &config.security.apparmor {
        _ if config.security.privileged => Ok(None),
        None | Some(Profile::Unconfined) => Ok(None),
        // Without AppArmor there is nothing that a default could be.
        Some(Profile::RuntimeDefault) if !enabled => Ok(None),
        Some(Profile::RuntimeDefault) => {
            let reason = "this node enforces AppArmor, and there is no default profile yet; \
                          use Localhost with a loaded profile, or Unconfined";
            Err(spec::Error::unsupported(field, reason).into())
        }
        Some(Profile::Localhost(profile)) => {
            if !enabled {
                let reason =
                    format!("the profile {profile:?} is asked for, and this node has no AppArmor");
                return Err(spec::Error::invalid(field, reason).into());
            }
            check_loaded(profile)?;
            Ok(Some(profile.clone()))
        }
    }
}

/// A profile that is not loaded would let the container run without any, or not at all.
fn check_loaded(profile: &str) -> Result<(), Error> {
    let path = Path::new("/sys/kernel/security/apparmor/profiles");
    let loaded = fs::read_to_string(path).during("read", path)?;
    let name_of = |line: &str| line.rsplit_once(" (").map(|(name, _)| name.to_owned());
    if loaded.lines().filter_map(name_of).any(|name| name == profile) {
        return Ok(());
    }
    let reason = format!("profile {profile:?} is not loaded; load it with apparmor_parser");
    Err(spec::Error::invalid("security_context.apparmor", reason).into())
}

/// A filter as the monitor takes it.
#[derive(Debug)]
pub(super) struct Filter {
    pub program: Vec<u8>,
    pub flags: u32,
}

/// Compiled default filters, by the capabilities that they depend on.
#[derive(Default)]
pub(super) struct Filters {
    // Held for one look-up.
    defaults: Mutex<HashMap<Vec<String>, Arc<Filter>>>,
}

impl Filters {
    /// The filter of a container; none for an unconfined one.
    pub(super) fn of_container(&self, container: &Container) -> Result<Option<Arc<Filter>>, Error> {
        let security = container.record().config.security.clone();
        match security.seccomp {
            _ if security.privileged => Ok(None),
            None | Some(Profile::Unconfined) => Ok(None),
            Some(Profile::RuntimeDefault) => self.default_for(&security).map(Some),
            Some(Profile::Localhost(path)) => local(Path::new(&path)).map(Some),
        }
    }

    fn default_for(
        &self,
        security: &spec::config::ContainerSecurity,
    ) -> Result<Arc<Filter>, Error> {
        // Everything that the daemon could give: those that it lacks open no system call.
        let all = spec::capabilities::from_bits(u64::MAX);
        let permitted = spec::capabilities::permitted(security, &all)?;
        let mut key: Vec<String> = permitted.iter().map(ToString::to_string).collect();
        key.sort();
        let lock = || self.defaults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = lock().get(&key) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(compile(&spec::seccomp::default_profile(&permitted))?);
        lock().insert(key, Arc::clone(&filter));
        Ok(filter)
    }
}

fn compile(profile: &oci_spec::runtime::LinuxSeccomp) -> Result<Filter, Error> {
    let filter = seccomp::compile(profile)?;
    Ok(Filter { program: to_bytes(&filter.program), flags: filter.flags })
}

/// The largest profile, in bytes; Docker's has 15 thousand.
const MAX_PROFILE: u64 = 4 << 20;

fn local(path: &Path) -> Result<Arc<Filter>, Error> {
    let field = "security_context.seccomp.localhost_ref";
    if !path.is_absolute() {
        let reason = format!("{path:?} must be an absolute path of a profile on this node");
        return Err(spec::Error::invalid(field, reason).into());
    }
    // A path of the user's: a device or a pipe there must not be read.
    let is_file = fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_PROFILE);
    if !is_file {
        let reason = format!(
            "there is no profile at {}: it must be a file of at most {MAX_PROFILE} bytes",
            path.display()
        );
        return Err(spec::Error::invalid(field, reason).into());
    }
    let json = fs::read(path).during("read seccomp profile", path)?;
    let profile = spec::seccomp::parse(&json).map_err(Reason::from)?;
    compile(&profile).map(Arc::new)
}

/// Checks at creation that a container's filter can be made.
pub(super) fn check_filter(config: &ContainerConfig) -> Result<(), Error> {
    match &config.security.seccomp {
        Some(Profile::Localhost(path)) if !config.security.privileged => {
            local(Path::new(path)).map(drop)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_container, check_sandbox, share_namespaces};
    use crate::spec::config::{ContainerConfig, NamespaceMode, SandboxConfig};

    fn with_sysctl(name: &str) -> SandboxConfig {
        let sysctls = [(name.to_owned(), "1".to_owned())].into();
        SandboxConfig { sysctls, ..SandboxConfig::default() }
    }

    #[test]
    fn only_sysctls_of_the_pods_own_namespaces() {
        for name in [
            "net.ipv4.ip_forward",
            "kernel.shm_rmid_forced",
            "fs.mqueue.msg_max",
            "net/core/somaxconn",
        ] {
            assert!(check_sandbox(&with_sysctl(name)).is_ok(), "{name}");
        }
        for name in
            ["kernel.core_pattern", "vm.swappiness", "net..x", "kernel.shmmax+kernel.core_pattern"]
        {
            assert!(check_sandbox(&with_sysctl(name)).is_err(), "{name}");
        }
        let mut config = with_sysctl("net.ipv4.ip_forward");
        config.security.namespaces.network = NamespaceMode::Node;
        let error = check_sandbox(&config).unwrap_err();
        assert!(error.to_string().contains("would change the host"), "{error}");
    }

    #[test]
    fn containers_share_what_their_sandbox_shares() {
        let sandbox = SandboxConfig::default();
        let mut container = ContainerConfig::default();
        assert!(check_container(&sandbox, &container).is_ok());
        container.security.namespaces.network = NamespaceMode::Node;
        assert!(check_container(&sandbox, &container).is_err());
        container.security.namespaces.network = NamespaceMode::Pod;
        let mut of_host = SandboxConfig::default();
        of_host.security.namespaces.network = NamespaceMode::Node;
        assert!(check_container(&of_host, &container).is_ok());
        share_namespaces(&of_host, &mut container);
        assert_eq!(container.security.namespaces.network, NamespaceMode::Node);
        container.security.privileged = true;
        assert!(check_container(&sandbox, &container).is_err());
    }
}
