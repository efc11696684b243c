//! What a sandbox may ask for.

use std::path::{Component, Path};

use crate::spec::{
    self,
    config::{NamespaceMode, SandboxConfig},
};

/// Checks what a sandbox may ask for.
pub(in crate::pod) fn check_sandbox(config: &SandboxConfig) -> Result<(), spec::Error> {
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

/// Checks where the cgroups of a pod shall lie.
pub(in crate::pod) fn check_cgroup_parent(parent: &str) -> Result<(), spec::Error> {
    let field = "linux.cgroup_parent";
    if parent.is_empty() {
        return Ok(());
    }
    if parent.ends_with(".slice") {
        let reason = format!(
            "{parent:?} is a slice of systemd, and this daemon has the cgroupfs driver; \
             set cgroupDriver: cgroupfs in the kubelet's configuration, or let it ask the runtime"
        );
        return Err(spec::Error::invalid(field, reason));
    }
    let plain =
        Path::new(parent).components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if !parent.starts_with('/') || parent == "/" || !plain {
        let reason = format!("{parent:?} must be an absolute path such as /kubepods/pod1");
        return Err(spec::Error::invalid(field, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check_cgroup_parent, check_sandbox};
    use crate::spec::config::{NamespaceMode, SandboxConfig};

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
    fn cgroup_parents_are_plain_paths() {
        for parent in ["", "/kubepods/besteffort/pod1"] {
            assert!(check_cgroup_parent(parent).is_ok(), "{parent}");
        }
        for (parent, word) in [
            ("kubepods", "absolute"),
            ("/", "absolute"),
            ("/a/../b", "absolute"),
            ("kubepods-pod1.slice", "cgroupDriver"),
        ] {
            let error = check_cgroup_parent(parent).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
