//! The pods and containers of a node at one moment, with what they use.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, stream};
use serde::Serialize;
use tonic::{Code, Status, transport::Channel};

use super::args;
use crate::cri::{
    PlainPodSandboxItem,
    v1::{
        ContainerState, ContainerStatus, ListPodSandboxRequest, ListPodSandboxStatsRequest,
        PodSandboxState, PodSandboxStats, PodSandboxStatusRequest, PodSandboxStatusResponse,
        runtime_service_client::RuntimeServiceClient,
    },
};

pub(in crate::cli) type Pods = RuntimeServiceClient<Channel>;

/// Calls that are under way at one time.
const SIDE_BY_SIDE: usize = 16;

/// A pod.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Pod {
    pub id: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// `ready` or `not ready`.
    pub state: &'static str,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// How often its sandbox was made anew.
    pub attempt: u32,
    pub addresses: Vec<String>,
    pub labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub usage: Usage,
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Container {
    pub id: String,
    pub name: String,
    pub image: String,
    /// `created`, `running` or `exited`.
    pub state: &'static str,
    pub exit_code: Option<i32>,
    pub reason: String,
    /// Nanoseconds since the epoch; 0 for not yet.
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub restarts: u32,
    #[serde(flatten)]
    pub usage: Usage,
}

/// What is used; what is not known is absent.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Usage {
    /// Billionths of a processor.
    pub cpu_nano_cores: Option<u64>,
    /// The working set.
    pub memory_bytes: Option<u64>,
}

impl Pod {
    pub(super) fn is_ready(&self) -> bool {
        self.state == READY
    }

    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Container {
    pub(super) fn is_ended(&self) -> bool {
        self.state == EXITED
    }
}

pub(super) const READY: &str = "ready";
const NOT_READY: &str = "not ready";
pub(super) const RUNNING: &str = "running";
const EXITED: &str = "exited";

/// All pods that are asked for, by namespace and name, the latest of a name first.
pub(super) async fn take(pods: &Pods, wanted: &args::Pods) -> Result<Vec<Pod>, Status> {
    let items = pods.clone().list_pod_sandbox(ListPodSandboxRequest::default()).await?;
    let items = items.into_inner().items;
    let items: Vec<PlainPodSandboxItem> =
        items.iter().filter_map(|item| item.plain().ok()).filter(|item| wanted.has(item)).collect();
    let usage = usage(pods).await?;
    let statuses = stream::iter(items).map(|item| status(pods.clone(), item.id));
    let mut found: Vec<Pod> = statuses
        .buffer_unordered(SIDE_BY_SIDE)
        .filter_map(async |answer| answer.transpose())
        .map(|answer| answer.map(|answer| pod(answer, &usage)))
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_, Status>>()?;
    found.sort_by(|one, other| {
        let key = |pod: &Pod| (pod.namespace.clone(), pod.name.clone(), -pod.created_at);
        key(one).cmp(&key(other))
    });
    Ok(found)
}

/// One that is gone meanwhile has none.
async fn status(mut pods: Pods, id: String) -> Result<Option<PodSandboxStatusResponse>, Status> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: id, verbose: false };
    match pods.pod_sandbox_status(request).await {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

impl args::Pods {
    fn has(&self, item: &PlainPodSandboxItem) -> bool {
        let metadata = item.metadata.clone().unwrap_or_default();
        let is_labelled = |label: &String| match label.split_once('=') {
            Some((name, value)) => item.labels.get(name).is_some_and(|has| has == value),
            None => item.labels.contains_key(label),
        };
        let is_named = |name: &String| {
            item.id.starts_with(name.as_str())
                || format!("{}/{}", metadata.namespace, metadata.name).contains(name.as_str())
        };
        self.namespace.as_ref().is_none_or(|namespace| *namespace == metadata.namespace)
            && self.labels.iter().all(is_labelled)
            && self.name.as_ref().is_none_or(is_named)
    }
}

/// By the ids of pods and of containers.
async fn usage(pods: &Pods) -> Result<HashMap<String, Usage>, Status> {
    let request = ListPodSandboxStatsRequest::default();
    let stats = pods.clone().list_pod_sandbox_stats(request).await?.into_inner().stats;
    Ok(stats.into_iter().flat_map(usages).collect())
}

fn usages(stats: PodSandboxStats) -> Vec<(String, Usage)> {
    let linux = stats.linux.unwrap_or_default();
    let id = stats.attributes.and_then(|attributes| attributes.plain().ok());
    let own = id.map(|attributes| (attributes.id, usage_of(linux.cpu, linux.memory)));
    let containers = linux.containers.into_iter().filter_map(|stats| {
        let id = stats.attributes?.plain().ok()?.id;
        Some((id, usage_of(stats.cpu, stats.memory)))
    });
    own.into_iter().chain(containers).collect()
}

fn usage_of(
    cpu: Option<crate::cri::v1::CpuUsage>,
    memory: Option<crate::cri::v1::MemoryUsage>,
) -> Usage {
    Usage {
        cpu_nano_cores: cpu.and_then(|cpu| cpu.usage_nano_cores).map(|value| value.value),
        memory_bytes: memory.and_then(|memory| memory.working_set_bytes).map(|value| value.value),
    }
}

fn pod(answer: PodSandboxStatusResponse, usage: &HashMap<String, Usage>) -> Pod {
    let status = answer.status.unwrap_or_default();
    let metadata = status.metadata.unwrap_or_default();
    let network = status.network.unwrap_or_default();
    let is_ready = status.state == i32::from(PodSandboxState::SandboxReady);
    let mut containers: Vec<Container> =
        answer.containers_statuses.into_iter().map(|one| container(one, usage)).collect();
    containers.sort_by_key(|container| container.created_at);
    let addresses = std::iter::once(network.ip)
        .chain(network.additional_ips.into_iter().map(|address| address.ip))
        .filter(|address| !address.is_empty());
    Pod {
        usage: usage.get(&status.id).copied().unwrap_or_default(),
        id: status.id,
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        state: if is_ready { READY } else { NOT_READY },
        created_at: status.created_at,
        attempt: metadata.attempt,
        addresses: addresses.collect(),
        labels: status.labels.into_iter().collect(),
        containers,
    }
}

fn container(status: ContainerStatus, usage: &HashMap<String, Usage>) -> Container {
    let metadata = status.metadata.unwrap_or_default();
    let image = status.image.unwrap_or_default();
    let state = match ContainerState::try_from(status.state) {
        Ok(ContainerState::ContainerCreated) => "created",
        Ok(ContainerState::ContainerRunning) => RUNNING,
        Ok(ContainerState::ContainerExited) => EXITED,
        _ => "unknown",
    };
    Container {
        usage: usage.get(&status.id).copied().unwrap_or_default(),
        id: status.id,
        name: metadata.name,
        image: match image.user_specified_image.as_str() {
            "" => image.image,
            given => given.to_owned(),
        },
        state,
        exit_code: (state == EXITED).then_some(status.exit_code),
        reason: status.reason,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        restarts: metadata.attempt,
    }
}
