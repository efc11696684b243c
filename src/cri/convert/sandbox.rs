//! Sandboxes.

use prost::Message;

use super::{
    super::v1,
    shared::{id, namespaces, namespaces_out, profile, resources, selinux},
};
use crate::{
    cri::items::{PlainPodSandboxItem, PodSandboxItem},
    pod::{Sandbox, SandboxPhase, SandboxRecord},
    spec::{
        Error,
        config::{Dns, PortMapping, Protocol, SandboxConfig, SandboxMetadata, SandboxSecurity},
    },
};

/// The configuration of a sandbox.
pub fn config(config: v1::PodSandboxConfig) -> Result<SandboxConfig, Error> {
    if config.windows.is_some() {
        return Err(Error::invalid("windows", "this is not a Windows node"));
    }
    let metadata = config
        .metadata
        .ok_or_else(|| Error::invalid("metadata", "is missing; it is the sandbox's identity"))?;
    let linux = config.linux.unwrap_or_default();
    Ok(SandboxConfig {
        metadata: SandboxMetadata {
            name: metadata.name,
            uid: metadata.uid,
            namespace: metadata.namespace,
            attempt: metadata.attempt,
        },
        hostname: config.hostname,
        log_directory: config.log_directory,
        dns: config.dns_config.map(|dns| Dns {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }),
        port_mappings: config
            .port_mappings
            .into_iter()
            .map(port_mapping)
            .collect::<Result<_, _>>()?,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        cgroup_parent: linux.cgroup_parent,
        sysctls: linux.sysctls.into_iter().collect(),
        security: security(linux.security_context.unwrap_or_default())?,
        overhead: linux.overhead.map(resources),
        resources: linux.resources.map(resources),
    })
}

/// A sandbox has no process of its own that a user, groups or a profile would apply to; they
/// are checked all the same, since they show a mistake.
#[expect(deprecated, reason = "the old field is read for kubelets that still send it")]
fn security(context: v1::LinuxSandboxSecurityContext) -> Result<SandboxSecurity, Error> {
    if let Some(user) = &context.run_as_user {
        id("security_context.run_as_user", user.value)?;
    }
    if let Some(group) = &context.run_as_group {
        id("security_context.run_as_group", group.value)?;
        if context.run_as_user.is_none() {
            let reason = "needs run_as_user as well";
            return Err(Error::invalid("security_context.run_as_group", reason));
        }
    }
    for group in &context.supplemental_groups {
        id("security_context.supplemental_groups", *group)?;
    }
    profile("security_context.seccomp", context.seccomp)?;
    profile("security_context.apparmor", context.apparmor)?;
    super::shared::profile_by_path(
        "security_context.seccomp_profile_path",
        &context.seccomp_profile_path,
    )?;
    Ok(SandboxSecurity {
        namespaces: namespaces(context.namespace_options)?,
        privileged: context.privileged,
        readonly_rootfs: context.readonly_rootfs,
        selinux: selinux(context.selinux_options),
    })
}

fn port_mapping(mapping: v1::PortMapping) -> Result<PortMapping, Error> {
    let port = |field, number: i32| {
        u16::try_from(number)
            .map_err(|_| Error::invalid(field, format!("{number} must be between 0 and 65535")))
    };
    Ok(PortMapping {
        protocol: match v1::Protocol::try_from(mapping.protocol) {
            Ok(v1::Protocol::Tcp) => Protocol::Tcp,
            Ok(v1::Protocol::Udp) => Protocol::Udp,
            Ok(v1::Protocol::Sctp) => Protocol::Sctp,
            Err(_) => {
                let reason = format!("{} is no protocol", mapping.protocol);
                return Err(Error::invalid("port_mappings.protocol", reason));
            }
        },
        container_port: port("port_mappings.container_port", mapping.container_port)?,
        host_port: port("port_mappings.host_port", mapping.host_port)?,
        host_ip: mapping.host_ip,
    })
}

fn metadata(metadata: &SandboxMetadata) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        attempt: metadata.attempt,
    }
}

/// One whose monitor does not answer is not ready, whatever it was before.
fn state(sandbox: &Sandbox) -> i32 {
    let state = match sandbox.is_ready() {
        true => v1::PodSandboxState::SandboxReady,
        false => v1::PodSandboxState::SandboxNotready,
    };
    state.into()
}

/// A sandbox in a list, where it is wanted by what its record says.
pub fn list_item(
    sandbox: &Sandbox,
    is_wanted: impl FnOnce(&SandboxRecord, i32) -> bool,
) -> Option<PodSandboxItem> {
    let state = state(sandbox);
    let record = sandbox.record();
    let encode = || item(sandbox, &record, state).encode_to_vec().into();
    is_wanted(&record, state).then(|| PodSandboxItem::from_bytes(sandbox.told.item(state, encode)))
}

/// The fields of a sandbox in a list.
pub(super) fn plain_item(sandbox: &Sandbox) -> PlainPodSandboxItem {
    let state = state(sandbox);
    item(sandbox, &sandbox.record(), state)
}

fn item(sandbox: &Sandbox, record: &SandboxRecord, state: i32) -> PlainPodSandboxItem {
    PlainPodSandboxItem {
        id: sandbox.id.to_string(),
        metadata: Some(metadata(&record.config.metadata)),
        state,
        created_at: record.created_at,
        labels: record.config.labels.clone().into_iter().collect(),
        annotations: record.config.annotations.clone().into_iter().collect(),
        runtime_handler: record.runtime_handler.clone(),
    }
}

/// The status of a sandbox.
pub fn status(sandbox: &Sandbox) -> v1::PodSandboxStatus {
    let state = state(sandbox);
    let record = sandbox.record();
    let mut addresses = match record.phase {
        SandboxPhase::Ready => record.addresses.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
    .into_iter();
    v1::PodSandboxStatus {
        id: sandbox.id.to_string(),
        metadata: Some(metadata(&record.config.metadata)),
        state,
        created_at: record.created_at,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: addresses.next().unwrap_or_default(),
            additional_ips: addresses.map(|ip| v1::PodIp { ip }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(namespaces_out(&record.config.security.namespaces)),
            }),
        }),
        labels: record.config.labels.clone().into_iter().collect(),
        annotations: record.config.annotations.clone().into_iter().collect(),
        runtime_handler: record.runtime_handler.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::config;
    use crate::{cri::v1, spec::config::Protocol};

    fn request() -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata { name: "p".to_owned(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn the_shape_is_kept() {
        let mut request = request();
        request.dns_config = Some(v1::DnsConfig {
            servers: vec!["s".to_owned()],
            searches: vec!["d".to_owned()],
            options: vec!["o".to_owned()],
        });
        request.port_mappings = vec![v1::PortMapping {
            protocol: 2,
            container_port: 80,
            host_port: 8080,
            ..Default::default()
        }];
        let config = config(request).unwrap();
        let dns = config.dns.unwrap();
        assert_eq!(
            (dns.servers, dns.searches, dns.options),
            (vec!["s".into()], vec!["d".into()], vec!["o".into()])
        );
        assert_eq!(config.port_mappings[0].protocol, Protocol::Sctp);
        assert_eq!(config.port_mappings[0].host_port, 8080);
    }

    #[test]
    fn mistakes_are_named() {
        let error = config(v1::PodSandboxConfig::default()).unwrap_err();
        assert!(error.to_string().starts_with("metadata"), "{error}");
        let mut request = request();
        request.port_mappings = vec![v1::PortMapping { host_port: 70_000, ..Default::default() }];
        let error = config(request).unwrap_err();
        assert!(error.to_string().contains("host_port"), "{error}");
    }
}
