//! What plugins are told about the pod beyond their configuration: `CNI_ARGS`, and the
//! capabilities that they declare.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::super::{Error, bandwidth::Bandwidth, request::PodRequest};

/// What a limit may exceed for a moment; the bandwidth plugin demands a value.
const BURST: u64 = i32::MAX as u64;

/// What plugins are told by their environment.
pub(super) fn arguments(pod: &PodRequest) -> [(&'static str, &str); 5] {
    [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &pod.sandbox_id),
        ("K8S_POD_UID", &pod.uid),
    ]
}

/// The value of `CNI_ARGS`.
pub(super) fn arguments_text(pod: &PodRequest) -> String {
    arguments(pod).map(|(key, value)| format!("{key}={value}")).join(";")
}

/// All that can be told, by capability; `ranges` are the subnets of the node.
pub(super) fn values(pod: &PodRequest, ranges: &[IpNet]) -> Result<Map<String, Value>, Error> {
    let mut values = Map::new();
    let mappings: Vec<Value> = pod
        .port_mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0)
        .map(|mapping| {
            json!({
                "hostPort": mapping.host_port,
                "containerPort": mapping.container_port,
                "protocol": mapping.protocol.name(),
                "hostIP": mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            })
        })
        .collect();
    if !mappings.is_empty() {
        values.insert("portMappings".to_owned(), Value::Array(mappings));
    }
    if let Some(bandwidth) = bandwidth(pod)? {
        values.insert("bandwidth".to_owned(), bandwidth);
    }
    let dns = &pod.dns;
    if !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()) {
        let dns = json!({
            "servers": dns.servers, "searches": dns.searches, "options": dns.options,
        });
        values.insert("dns".to_owned(), dns);
    }
    if !pod.cgroup_parent.is_empty() {
        values.insert("cgroupPath".to_owned(), json!(pod.cgroup_parent));
    }
    if !ranges.is_empty() {
        let range = |subnet: &IpNet| json!([{ "subnet": subnet }]);
        values.insert("ipRanges".to_owned(), ranges.iter().map(range).collect());
    }
    if !pod.ips.is_empty() {
        values.insert("ips".to_owned(), json!(pod.ips));
    }
    if !pod.mac.is_empty() {
        values.insert("mac".to_owned(), json!(pod.mac));
    }
    values.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(pod.annotations));
    Ok(values)
}

fn bandwidth(pod: &PodRequest) -> Result<Option<Value>, Error> {
    let Bandwidth { ingress, egress } = Bandwidth::of(pod)?;
    let mut limits = Map::new();
    for (rate, direction) in [(ingress, "ingress"), (egress, "egress")] {
        if let Some(rate) = rate {
            limits.insert(format!("{direction}Rate"), json!(rate));
            limits.insert(format!("{direction}Burst"), json!(BURST));
        }
    }
    Ok((!limits.is_empty()).then_some(Value::Object(limits)))
}
