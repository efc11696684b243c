//! What plugins are told about the pod beyond their configuration: `CNI_ARGS`, and the
//! capabilities that they declare.

use serde_json::{Map, Value, json};

use super::super::request::PodRequest;
use crate::quantity;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// What a limit may exceed for a moment; the bandwidth plugin demands a value.
const BURST: u64 = i32::MAX as u64;

/// The value of `CNI_ARGS`.
pub(super) fn arguments(pod: &PodRequest) -> String {
    [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &pod.sandbox_id),
        ("K8S_POD_UID", &pod.uid),
    ]
    .map(|(key, value)| format!("{key}={value}"))
    .join(";")
}

/// All that can be told, by capability.
pub(super) fn values(pod: &PodRequest) -> Result<Map<String, Value>, String> {
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
    values.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(pod.annotations));
    Ok(values)
}

fn bandwidth(pod: &PodRequest) -> Result<Option<Value>, String> {
    let mut limits = Map::new();
    for (annotation, direction) in [(INGRESS, "ingress"), (EGRESS, "egress")] {
        if let Some(text) = pod.annotations.get(annotation) {
            let rate =
                quantity::whole(text).filter(|rate| (1_000..=1_000_000_000_000_000).contains(rate));
            let rate = rate.ok_or_else(|| {
                format!("annotation {annotation} {text:?} is no rate from 1k to 1P bits a second")
            })?;
            limits.insert(format!("{direction}Rate"), json!(rate));
            limits.insert(format!("{direction}Burst"), json!(BURST));
        }
    }
    Ok((!limits.is_empty()).then_some(Value::Object(limits)))
}
