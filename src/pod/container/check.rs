//! What a container may ask for in its sandbox.

use crate::spec::{
    self,
    config::{ContainerConfig, NamespaceMode, SandboxConfig},
};

/// Checks what a container may ask for in its sandbox.
pub(in crate::pod) fn check_container(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
) -> Result<(), spec::Error> {
    let security = &config.security;
    if security.privileged && !sandbox.security.privileged {
        let reason = "a privileged container needs a privileged sandbox";
        return Err(spec::Error::invalid("security_context.privileged", reason));
    }
    let (modes, of_sandbox) = (&security.namespaces, &sandbox.security.namespaces);
    if modes.users.is_some() && modes.users != of_sandbox.users {
        let reason = "must be that of the sandbox";
        return Err(spec::Error::invalid("namespace_options.userns_options", reason));
    }
    if of_sandbox.users.is_none() && config.mounts.iter().any(|mount| mount.idmapped) {
        let reason = "need a pod with a user namespace; leave the mappings out";
        return Err(spec::Error::invalid("mounts.uidMappings", reason));
    }
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
    for (field, mode) in
        [("namespace_options.network", modes.network), ("namespace_options.ipc", modes.ipc)]
    {
        if mode == NamespaceMode::Target {
            let reason = "is TARGET, which is for PID namespaces alone; leave it at POD";
            return Err(spec::Error::invalid(field, reason));
        }
    }
    if modes.pid == NamespaceMode::Node && of_sandbox.pid != NamespaceMode::Node {
        let reason = format!("is NODE, and that of the sandbox is {:?}", of_sandbox.pid);
        return Err(spec::Error::invalid("namespace_options.pid", reason));
    }
    if modes.pid == NamespaceMode::Pod && of_sandbox.pid != NamespaceMode::Pod {
        let reason = "is POD, and the sandbox was made without a PID namespace of its own";
        return Err(spec::Error::invalid("namespace_options.pid", reason));
    }
    Ok(())
}

/// Gives a container the namespaces that all containers of its sandbox share.
pub(in crate::pod) fn share_namespaces(sandbox: &SandboxConfig, config: &mut ContainerConfig) {
    let (modes, of_sandbox) = (&mut config.security.namespaces, &sandbox.security.namespaces);
    (modes.network, modes.ipc) = (of_sandbox.network, of_sandbox.ipc);
    modes.users = of_sandbox.users;
}

#[cfg(test)]
mod tests {
    use super::{check_container, share_namespaces};
    use crate::spec::config::{ContainerConfig, NamespaceMode, SandboxConfig};

    #[test]
    fn no_container_has_more_of_the_host_than_its_sandbox() {
        let sandbox = SandboxConfig::default();
        let with = |set: fn(&mut ContainerConfig)| {
            let mut config = ContainerConfig::default();
            set(&mut config);
            check_container(&sandbox, &config)
        };
        assert!(with(|c| c.security.namespaces.pid = NamespaceMode::Node).is_err());
        assert!(with(|c| c.security.namespaces.ipc = NamespaceMode::Target).is_err());
        assert!(with(|c| c.security.namespaces.network = NamespaceMode::Target).is_err());
        assert!(with(|c| c.security.namespaces.pid = NamespaceMode::Container).is_ok());
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
