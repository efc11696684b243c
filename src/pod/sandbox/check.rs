//! What a sandbox may ask for.

use std::path::{Component, Path};

use crate::{
    spec::{
        self,
        config::{NamespaceMode, SandboxConfig},
    },
    systemd::slice,
};

/// Checks what a sandbox may ask for.
pub(in crate::pod) fn check_sandbox(config: &SandboxConfig) -> Result<(), spec::Error> {
    check_names(config)?;
    let modes = &config.security.namespaces;
    for (field, mode) in
        [("namespace_options.network", modes.network), ("namespace_options.ipc", modes.ipc)]
    {
        if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
            return Err(spec::Error::invalid(field, "must be POD or NODE"));
        }
    }
    if modes.users.is_some() {
        for (field, mode) in
            [("namespace_options.pid", modes.pid), ("namespace_options.ipc", modes.ipc)]
        {
            if mode == NamespaceMode::Node {
                let reason = "must not be NODE in a pod with a user namespace of its own";
                return Err(spec::Error::invalid(field, reason));
            }
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

/// Names are handed to plugins as `NAME=VALUE;NAME=VALUE` (`CNI_ARGS`): none may add another.
fn check_names(config: &SandboxConfig) -> Result<(), spec::Error> {
    let metadata = &config.metadata;
    for (field, name) in [
        ("metadata.name", &metadata.name),
        ("metadata.namespace", &metadata.namespace),
        ("metadata.uid", &metadata.uid),
    ] {
        if name.chars().any(|c| c == ';' || c.is_control()) {
            let reason = format!("{name:?} must not contain semicolons or control characters");
            return Err(spec::Error::invalid(field, reason));
        }
    }
    Ok(())
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
    if !plain || dotted.contains("..") || dotted.starts_with('.') || dotted.ends_with('.') {
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

/// Checks where the cgroups of a pod shall lie: in a slice with the driver systemd, and else at
/// a path.
pub(in crate::pod) fn check_cgroup_parent(parent: &str, systemd: bool) -> Result<(), spec::Error> {
    let field = "linux.cgroup_parent";
    if parent.is_empty() {
        return Ok(());
    }
    if systemd && parent.ends_with(slice::SUFFIX) {
        let named = slice::path_of(parent);
        return named.map(drop).map_err(|error| spec::Error::invalid(field, error.to_string()));
    }
    if systemd {
        let reason = format!(
            "{parent:?} is no slice, and this daemon has the systemd driver; set cgroupDriver: \
             systemd in the kubelet's configuration, or let it ask the runtime, or set \
             cgroup_driver = \"cgroupfs\" in Criquet's"
        );
        return Err(spec::Error::invalid(field, reason));
    }
    if parent.ends_with(slice::SUFFIX) {
        let reason = format!(
            "{parent:?} is a slice of systemd, and this daemon has the cgroupfs driver; set \
             cgroupDriver: cgroupfs in the kubelet's configuration, or let it ask the runtime, or \
             set cgroup_driver = \"systemd\" in Criquet's"
        );
        return Err(spec::Error::invalid(field, reason));
    }
    let mut parts = Path::new(parent).components();
    let is_absolute = parts.next() == Some(Component::RootDir);
    // "//" and "/." are the root as well.
    let names = parts.clone().count();
    let plain = parts.all(|part| matches!(part, Component::Normal(_)));
    if !is_absolute || names == 0 || !plain || parent.chars().any(char::is_control) {
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
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "net..x",
            "net.",
            "net/ipv4/",
            "kernel.shmmax+kernel.core_pattern",
        ] {
            assert!(check_sandbox(&with_sysctl(name)).is_err(), "{name}");
        }
        let mut config = with_sysctl("net.ipv4.ip_forward");
        config.security.namespaces.network = NamespaceMode::Node;
        let error = check_sandbox(&config).unwrap_err();
        assert!(error.to_string().contains("would change the host"), "{error}");
    }

    #[test]
    fn no_name_adds_an_argument_of_plugins() {
        let mut config = SandboxConfig::default();
        config.metadata.name = "pod;K8S_POD_NAMESPACE=kube-system".to_owned();
        assert!(check_sandbox(&config).unwrap_err().to_string().contains("metadata.name"));
        config.metadata.name = "pod-1.2_3".to_owned();
        assert!(check_sandbox(&config).is_ok());
    }

    #[test]
    fn cgroup_parents_are_plain_paths() {
        for parent in ["", "/kubepods/besteffort/pod1"] {
            assert!(check_cgroup_parent(parent, false).is_ok(), "{parent}");
        }
        for (parent, word) in [
            ("kubepods", "absolute"),
            ("/", "absolute"),
            ("//", "absolute"),
            ("/.", "absolute"),
            ("/a\nb", "absolute"),
            ("/a/../b", "absolute"),
            ("kubepods-pod1.slice", "cgroupDriver"),
        ] {
            let error = check_cgroup_parent(parent, false).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn with_systemd_they_are_slices() {
        for parent in ["", "kubepods-besteffort-pod1_2.slice", "-.slice"] {
            assert!(check_cgroup_parent(parent, true).is_ok(), "{parent}");
        }
        for (parent, word) in [
            ("/kubepods/besteffort/pod1", "cgroupDriver: systemd"),
            ("/kubepods.slice/kubepods-pod1.slice", "the slice's own name"),
            ("a--b.slice", "between"),
            (".slice", "between"),
        ] {
            let error = check_cgroup_parent(parent, true).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
