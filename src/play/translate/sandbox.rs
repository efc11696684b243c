//! The sandbox of a pod: names, ports, name resolution, namespaces.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::{Problem, namespace, plan::Facts, resources::Wanted, security};
use crate::cri::v1::{
    DnsConfig, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol,
};

/// The longest host name (sethostname(2)); Kubernetes cuts at 63.
const LONGEST_HOSTNAME: usize = 63;

/// Labels by which tools find pods.
pub const LABEL_NAME: &str = "io.kubernetes.pod.name";
/// The same for the namespace.
pub const LABEL_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The same for the unique id.
pub const LABEL_UID: &str = "io.kubernetes.pod.uid";

pub(super) fn config(
    pod: &Pod,
    spec: &PodSpec,
    facts: &Facts,
    wanted: &Wanted,
    problems: &mut Vec<Problem>,
) -> PodSandboxConfig {
    let metadata = &pod.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let mut labels: std::collections::HashMap<String, String> =
        metadata.labels.clone().into_iter().flatten().collect();
    labels.insert(LABEL_NAME.to_owned(), name.clone());
    labels.insert(LABEL_NAMESPACE.to_owned(), namespace(pod));
    labels.insert(LABEL_UID.to_owned(), facts.uid.clone());
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.clone(),
            uid: facts.uid.clone(),
            namespace: namespace(pod),
            attempt: 0,
        }),
        hostname: match spec.host_network {
            Some(true) => String::new(),
            _ => hostname(spec.hostname.as_deref().unwrap_or(&name)),
        },
        log_directory: facts.directory.join("logs").display().to_string(),
        dns_config: dns(spec, problems),
        port_mappings: ports(spec, problems),
        labels,
        annotations: metadata.annotations.clone().into_iter().flatten().collect(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(security::of_sandbox(spec, facts.first_user, problems)),
            sysctls: sysctls.map(|one| (one.name.clone(), one.value.clone())).collect(),
            resources: Some(wanted.limits(0)),
            ..LinuxPodSandboxConfig::default()
        }),
        windows: None,
    }
}

fn hostname(name: &str) -> String {
    let name: String = name.chars().take(LONGEST_HOSTNAME).collect();
    name.trim_end_matches(['-', '.']).to_owned()
}

/// Without a cluster there is no cluster's name server: `ClusterFirst` is the host's as well.
fn dns(spec: &PodSpec, problems: &mut Vec<Problem>) -> Option<DnsConfig> {
    let given = spec.dns_config.clone();
    let is_none = spec.dns_policy.as_deref() == Some("None");
    if is_none && given.as_ref().is_none_or(|dns| dns.nameservers.iter().flatten().count() == 0) {
        let reason = "None needs nameservers in spec.dnsConfig";
        problems.push(Problem::new("spec.dnsPolicy", reason));
    }
    let mut config = if is_none { DnsConfig::default() } else { of_host() };
    let given = match given {
        None if !is_none => return None,
        given => given.unwrap_or_default(),
    };
    let option = |name: Option<String>, value: Option<String>| match value {
        Some(value) => format!("{}:{value}", name.unwrap_or_default()),
        None => name.unwrap_or_default(),
    };
    config.servers.extend(given.nameservers.into_iter().flatten());
    config.searches.extend(given.searches.into_iter().flatten());
    let options = given.options.into_iter().flatten();
    config.options.extend(options.map(|one| option(one.name, one.value)));
    Some(config)
}

/// The host's, to which a pod may add.
fn of_host() -> DnsConfig {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let key = words.next();
        let values = words.map(str::to_owned);
        match key {
            Some("nameserver") => config.servers.extend(values.take(1)),
            Some("search") => config.searches = values.collect(),
            Some("options") => config.options = values.collect(),
            _ => {}
        }
    }
    config
}

/// Ports of the host. With the host's network a container has its ports there by itself.
fn ports(spec: &PodSpec, problems: &mut Vec<Problem>) -> Vec<PortMapping> {
    let mut mappings: Vec<PortMapping> = Vec::new();
    let all = |path: &str, containers: &[Container]| -> Vec<(String, Container)> {
        let numbered = containers.iter().enumerate();
        numbered.map(|(number, one)| (format!("{path}[{number}]"), one.clone())).collect()
    };
    let init = all("spec.initContainers", spec.init_containers.as_deref().unwrap_or_default());
    for (path, container) in init.into_iter().chain(all("spec.containers", &spec.containers)) {
        for (number, port) in container.ports.iter().flatten().enumerate() {
            let path = format!("{path}.ports[{number}]");
            let is_port = |port: i32| (1..=65_535).contains(&port);
            if !is_port(port.container_port) {
                let reason = "must be a port from 1 to 65535";
                problems.push(Problem::new(format!("{path}.containerPort"), reason));
            }
            let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
            let path = format!("{path}.hostPort");
            if !is_port(host_port) {
                problems.push(Problem::new(path, "must be a port from 1 to 65535"));
                continue;
            }
            if spec.host_network == Some(true) {
                if host_port != port.container_port {
                    let reason = "must be the containerPort where the pod has the host's network";
                    problems.push(Problem::new(path, reason));
                }
                continue;
            }
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let mapping = PortMapping {
                protocol: protocol.into(),
                container_port: port.container_port,
                host_port,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            };
            let is_same = |one: &PortMapping| {
                (one.protocol, one.host_port, &one.host_ip)
                    == (mapping.protocol, mapping.host_port, &mapping.host_ip)
            };
            if mappings.iter().any(is_same) {
                problems.push(Problem::new(path, "is taken by another port of the pod"));
            } else {
                mappings.push(mapping);
            }
        }
    }
    mappings
}
