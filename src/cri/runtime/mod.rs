//! The RuntimeService: one file for each call, named after it.

mod attach;
mod container_stats;
mod container_status;
mod create_container;
mod exec;
mod exec_sync;
mod get_container_events;
mod list_container_stats;
mod list_containers;
mod list_metric_descriptors;
mod list_pod_sandbox;
mod list_pod_sandbox_metrics;
mod list_pod_sandbox_stats;
mod metrics;
mod pod_sandbox_stats;
mod pod_sandbox_status;
mod port_forward;
mod remove_container;
mod remove_pod_sandbox;
mod reopen_container_log;
mod run_pod_sandbox;
mod runtime_config;
mod start_container;
mod stats;
mod status;
mod stop_container;
mod stop_pod_sandbox;
mod stream_container_stats;
mod stream_containers;
mod stream_pod_sandbox_metrics;
mod stream_pod_sandbox_stats;
mod stream_pod_sandboxes;
mod update_container_resources;
mod update_pod_sandbox_resources;
mod update_runtime_config;
mod version;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tonic::{Request, Response, Status};

use super::{chunks::Answers, convert, metrics::Table, status::not_built, v1};
use crate::{
    kind::Kind,
    pod::{Container, Pods},
    streaming::Urls,
};

/// How long a status waits for a pod that is taken up after a restart of the daemon.
const TAKE_UP: Duration = Duration::from_secs(1);

/// The same of a list, which is asked for more often and tells of more pods.
const TAKE_UP_ALL: Duration = Duration::from_millis(30);

/// Serves the RuntimeService.
#[derive(Clone)]
pub struct RuntimeServer {
    pods: Arc<Pods>,
    urls: Arc<Urls>,
    table: Arc<Table>,
}

impl RuntimeServer {
    /// A service over these pods, which gives out these URLs.
    pub fn new(pods: Arc<Pods>, urls: Arc<Urls>) -> Self {
        Self { pods, urls, table: Arc::new(Table::built_in()) }
    }

    /// The container with its image's first name: images can be tagged anew at any time.
    fn status_of(&self, container: &Container) -> v1::ContainerStatus {
        let id = container.record().image_id.to_string();
        let image = self.pods.images().find(&id);
        convert::container_status(container, image.and_then(|i| i.repo_tags.first().cloned()))
    }
}

/// Whether all that is asked for is among the labels, which are looked at only then.
fn selects<'a>(
    selector: &HashMap<String, String>,
    labels: impl FnOnce() -> &'a BTreeMap<String, String>,
) -> bool {
    if selector.is_empty() {
        return true;
    }
    let labels = labels();
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Stop and remove of what is not there succeed.
fn if_there<T>(found: Result<Arc<T>, crate::pod::Error>) -> Result<Option<Arc<T>>, Status> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::runtime_service_server::RuntimeService for RuntimeServer {
    async fn version(&self, request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        RuntimeServer::version(self, request.into_inner()).await.map(Response::new)
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        RuntimeServer::run_pod_sandbox(self, request.into_inner()).await.map(Response::new)
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        RuntimeServer::stop_pod_sandbox(self, request.into_inner()).await.map(Response::new)
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        RuntimeServer::remove_pod_sandbox(self, request.into_inner()).await.map(Response::new)
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        RuntimeServer::pod_sandbox_status(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        RuntimeServer::list_pod_sandbox(self, request.into_inner()).await.map(Response::new)
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        RuntimeServer::create_container(self, request.into_inner()).await.map(Response::new)
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        RuntimeServer::start_container(self, request.into_inner()).await.map(Response::new)
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        RuntimeServer::stop_container(self, request.into_inner()).await.map(Response::new)
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        RuntimeServer::remove_container(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        RuntimeServer::list_containers(self, request.into_inner()).await.map(Response::new)
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        RuntimeServer::container_status(self, request.into_inner()).await.map(Response::new)
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        RuntimeServer::update_container_resources(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        RuntimeServer::reopen_container_log(self, request.into_inner()).await.map(Response::new)
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        RuntimeServer::exec_sync(self, request.into_inner()).await
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        RuntimeServer::exec(self, request.into_inner()).await.map(Response::new)
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        RuntimeServer::attach(self, request.into_inner()).await.map(Response::new)
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        RuntimeServer::port_forward(self, request.into_inner()).await.map(Response::new)
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        RuntimeServer::status(self, request.into_inner()).await.map(Response::new)
    }

    async fn runtime_config(
        &self,
        request: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        RuntimeServer::runtime_config(self, request.into_inner()).await.map(Response::new)
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        RuntimeServer::update_runtime_config(self, request.into_inner()).await.map(Response::new)
    }

    type StreamPodSandboxesStream = Answers<v1::StreamPodSandboxesResponse>;
    type StreamContainersStream = Answers<v1::StreamContainersResponse>;
    type StreamContainerStatsStream = Answers<v1::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Answers<v1::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Answers<v1::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = get_container_events::Events;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        RuntimeServer::stream_pod_sandboxes(self, request.into_inner()).await.map(Response::new)
    }

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        RuntimeServer::stream_containers(self, request.into_inner()).await.map(Response::new)
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        RuntimeServer::container_stats(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        RuntimeServer::list_container_stats(self, request.into_inner()).await.map(Response::new)
    }

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        RuntimeServer::stream_container_stats(self, request.into_inner()).await.map(Response::new)
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        RuntimeServer::pod_sandbox_stats(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        RuntimeServer::list_pod_sandbox_stats(self, request.into_inner()).await.map(Response::new)
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        RuntimeServer::stream_pod_sandbox_stats(self, request.into_inner()).await.map(Response::new)
    }

    async fn checkpoint_container(
        &self,
        _request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        Err(not_built("CheckpointContainer"))
    }

    async fn get_container_events(
        &self,
        request: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        RuntimeServer::get_container_events(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        RuntimeServer::list_metric_descriptors(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        RuntimeServer::list_pod_sandbox_metrics(self, request.into_inner()).await.map(Response::new)
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        RuntimeServer::stream_pod_sandbox_metrics(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        RuntimeServer::update_pod_sandbox_resources(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn checkpoint_pod(
        &self,
        _request: Request<v1::CheckpointPodRequest>,
    ) -> Answer<v1::CheckpointPodResponse> {
        Err(not_built("CheckpointPod"))
    }

    async fn restore_pod(
        &self,
        _request: Request<v1::RestorePodRequest>,
    ) -> Answer<v1::RestorePodResponse> {
        Err(not_built("RestorePod"))
    }
}
