//! `criquet inspect`: all that is known of a pod or a container, for people.

mod container;
mod mounts;
mod namespaces;
mod pod;
mod words;

use std::io::{self, IsTerminal};

use serde_json::{Value, json};
use tonic::Status;

use super::{
    args::{self, Inspect},
    find::{self, Found},
    open, snapshot,
};
use crate::{
    admin::v1::{InspectPodRequest, InspectPodResponse, ListNetworksRequest, PodNetwork},
    cli::{Error, image::Client, image::args::Output, output::print, paint::Paint},
    cri::v1::{
        ContainerStatus, ContainerStatusRequest, LinuxContainerResources, PodSandboxStatusRequest,
    },
};

/// All that is known.
struct Known<'a> {
    pod: &'a snapshot::Pod,
    /// None where the pod itself is asked for.
    container: Option<&'a snapshot::Container>,
    /// What the verbose statuses say.
    pod_info: Value,
    info: Value,
    status: ContainerStatus,
    kernel: InspectPodResponse,
    network: Option<PodNetwork>,
}

/// Prints what is known.
pub(super) fn command(arguments: &Inspect) -> Result<(), Error> {
    let client = open(&arguments.node)?;
    let pods = client.wait(snapshot::take(&client.pods(), &args::Pods::default()))?;
    let (pod, container) = match find::any(&pods, &arguments.name)? {
        Found::Pod(pod) => (pod, None),
        Found::Container(pod, container) => (pod, Some(container)),
    };
    let known = client.wait(gather(&client, pod, container))?;
    let paint = Paint::of(io::stdout().is_terminal());
    print(&match (arguments.output, container) {
        (Output::Json, _) => format!("{:#}\n", known.document()),
        (Output::Table, None) => pod::text(&known, paint),
        (Output::Table, Some(container)) => container::text(&known, container, paint),
    })
}

async fn gather<'a>(
    client: &Client,
    pod: &'a snapshot::Pod,
    container: Option<&'a snapshot::Container>,
) -> Result<Known<'a>, Status> {
    let (mut pods, mut admin) = (client.pods(), client.admin());
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let pod_info = pods.pod_sandbox_status(request).await?.into_inner().info;
    let mut known = Known {
        pod,
        container,
        pod_info: parsed(pod_info.get("info")),
        info: Value::Null,
        status: ContainerStatus::default(),
        kernel: InspectPodResponse::default(),
        network: None,
    };
    if let Some(container) = container {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
        let answer = pods.container_status(request).await?.into_inner();
        known.info = parsed(answer.info.get("info"));
        known.status = answer.status.unwrap_or_default();
    }
    let request = InspectPodRequest { sandbox_id: pod.id.clone() };
    known.kernel = admin.inspect_pod(request).await?.into_inner();
    let networks = admin.list_networks(ListNetworksRequest { check: false }).await?.into_inner();
    known.network = networks.pods.into_iter().find(|one| one.sandbox_id == pod.id);
    Ok(known)
}

fn parsed(text: Option<&String>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

impl Known<'_> {
    fn document(&self) -> Value {
        let resources = self.status.resources.clone().and_then(|all| all.linux);
        let kernel: Vec<_> = self
            .kernel
            .processes
            .iter()
            .filter(|process| {
                self.container.is_none_or(|container| container.id == process.container_id)
            })
            .collect();
        json!({
            "pod": self.pod,
            "container": self.container,
            "network": self.network,
            "resources": resources.as_ref().map(limits_document),
            "logPath": self.status.log_path,
            "hostNamespaces": self.kernel.host,
            "podNamespaces": self.kernel.pod,
            "processes": kernel,
            "podInfo": self.pod_info,
            "info": self.info,
        })
    }
}

fn limits_document(limits: &LinuxContainerResources) -> Value {
    json!({
        "cpuPeriod": limits.cpu_period,
        "cpuQuota": limits.cpu_quota,
        "cpuShares": limits.cpu_shares,
        "memoryLimitInBytes": limits.memory_limit_in_bytes,
        "memorySwapLimitInBytes": limits.memory_swap_limit_in_bytes,
        "oomScoreAdj": limits.oom_score_adj,
        "cpusetCpus": limits.cpuset_cpus,
        "cpusetMems": limits.cpuset_mems,
        "unified": limits.unified,
    })
}
