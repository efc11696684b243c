//! A sandbox as an OCI runtime spec. It has no container of its own; what tools look for in
//! one is where its namespaces are, and whose it is.

use serde_json::{Value, json};

use crate::{
    pod::{SandboxId, SandboxPhase, SandboxRecord},
    spec::config::NamespaceMode,
};

/// Namespaces with their paths while the sandbox is ready, its cgroup, and annotations by the
/// names that containerd has for them.
pub(super) fn of(id: &SandboxId, record: &SandboxRecord) -> Value {
    let config = &record.config;
    let modes = &config.security.namespaces;
    let is_ready = record.phase == SandboxPhase::Ready;
    let of_monitor =
        |name: &str| is_ready.then(|| format!("/proc/{}/ns/{name}", record.monitor_pid));
    let mut namespaces = vec![json!({ "type": "uts", "path": of_monitor("uts") })];
    if modes.ipc != NamespaceMode::Node {
        namespaces.push(json!({ "type": "ipc", "path": of_monitor("ipc") }));
    }
    if let Some(netns) = &record.netns {
        namespaces.push(json!({ "type": "network", "path": netns }));
    }
    json!({
        "ociVersion": "1.2.1",
        "hostname": config.hostname,
        "annotations": {
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-id": id,
            "io.kubernetes.cri.sandbox-name": config.metadata.name,
            "io.kubernetes.cri.sandbox-namespace": config.metadata.namespace,
            "io.kubernetes.cri.sandbox-uid": config.metadata.uid,
            "io.kubernetes.cri.sandbox-log-directory": config.log_directory,
        },
        "linux": {
            "cgroupsPath": record.cgroup,
            "namespaces": namespaces,
            "sysctl": config.sysctls,
        },
    })
}
