//! The RuntimeService.

use std::{collections::HashMap, sync::Arc};

use tonic::{Request, Response, Status};

use super::{convert, info, node, status::not_built, v1};
use crate::{
    kind::Kind,
    pod::{Container, Pods, Sandbox},
    spec,
    streaming::{self, Urls},
};

/// Serves the RuntimeService.
#[derive(Clone)]
pub struct RuntimeServer {
    pods: Arc<Pods>,
    urls: Arc<Urls>,
}

impl RuntimeServer {
    /// A service over these pods, which gives out these URLs.
    pub fn new(pods: Arc<Pods>, urls: Arc<Urls>) -> Self {
        Self { pods, urls }
    }

    /// The container with its image's first name: images can be tagged anew at any time.
    fn container_status(&self, container: &Container) -> v1::ContainerStatus {
        let id = container.record().image_id.to_string();
        let image = self.pods.images().find(&id);
        convert::container_status(container, image.and_then(|i| i.repo_tags.first().cloned()))
    }
}

/// Whether all that is asked for is among the labels.
fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn sandbox_matches(filter: &v1::PodSandboxFilter, sandbox: &v1::PodSandbox) -> bool {
    sandbox.id.starts_with(&filter.id)
        && filter.state.as_ref().is_none_or(|state| state.state == sandbox.state)
        && selects(&filter.label_selector, &sandbox.labels)
}

fn container_matches(filter: &v1::ContainerFilter, container: &v1::Container) -> bool {
    container.id.starts_with(&filter.id)
        && container.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|state| state.state == container.state)
        && selects(&filter.label_selector, &container.labels)
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
type Stream<T> = tokio_stream::Empty<Result<T, Status>>;

#[tonic::async_trait]
impl v1::runtime_service_server::RuntimeService for RuntimeServer {
    async fn version(&self, _request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        Ok(Response::new(node::version()))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = request
            .config
            .ok_or_else(|| spec::Error::invalid("config", "is missing; describe the sandbox"))?;
        let config = convert::sandbox_config(config)?;
        let id = self.pods.run_sandbox(config, request.runtime_handler).await?;
        Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id: id.to_string() }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        if let Some(sandbox) = if_there(self.pods.sandbox(&request.into_inner().pod_sandbox_id))? {
            self.pods.stop_sandbox(&sandbox).await?;
        }
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        if let Some(sandbox) = if_there(self.pods.sandbox(&request.into_inner().pod_sandbox_id))? {
            self.pods.remove_sandbox(&sandbox).await?;
        }
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let request = request.into_inner();
        let sandbox: Arc<Sandbox> = self.pods.sandbox(&request.pod_sandbox_id)?;
        let containers = self.pods.containers_of(&sandbox);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(Response::new(v1::PodSandboxStatusResponse {
            status: Some(convert::sandbox_status(&sandbox)),
            info: if request.verbose { info::sandbox(&sandbox) } else { HashMap::new() },
            containers_statuses: containers
                .iter()
                .map(|container| self.container_status(container))
                .collect(),
            timestamp: now.map_or(0, |elapsed| elapsed.as_nanos() as i64),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let sandboxes = self.pods.sandboxes();
        let items = sandboxes
            .iter()
            .map(|sandbox| convert::sandbox_item(sandbox))
            .filter(|item| sandbox_matches(&filter, item))
            .collect();
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let sandbox = self.pods.sandbox(&request.pod_sandbox_id)?;
        let config = request
            .config
            .ok_or_else(|| spec::Error::invalid("config", "is missing; describe the container"))?;
        let config = convert::container_config(config)?;
        let id = self.pods.create_container(&sandbox, config).await?;
        Ok(Response::new(v1::CreateContainerResponse { container_id: id.to_string() }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let container = self.pods.container(&request.into_inner().container_id)?;
        self.pods.start_container(&container).await?;
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        if let Some(container) = if_there(self.pods.container(&request.container_id))? {
            self.pods.stop_container(&container, request.timeout).await?;
        }
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        if let Some(container) = if_there(self.pods.container(&request.into_inner().container_id))?
        {
            self.pods.remove_container(&container).await?;
        }
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let containers = self.pods.containers();
        let containers = containers
            .iter()
            .map(|container| convert::container_item(container))
            .filter(|item| container_matches(&filter, item))
            .collect();
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.pods.container(&request.container_id)?;
        let info = match request.verbose {
            true => info::container(&self.pods, &container),
            false => HashMap::new(),
        };
        let status = Some(RuntimeServer::container_status(self, &container));
        Ok(Response::new(v1::ContainerStatusResponse { status, info }))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        if request.windows.is_some() {
            return Err(spec::Error::invalid("windows", "this is not a Windows node").into());
        }
        let container = self.pods.container(&request.container_id)?;
        let update = convert::resources(request.linux.unwrap_or_default());
        self.pods.update_container(&container, &update).await?;
        Ok(Response::new(v1::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let container = self.pods.container(&request.into_inner().container_id)?;
        self.pods.reopen_log(&container).await?;
        Ok(Response::new(v1::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        let request = request.into_inner();
        let container = self.pods.container(&request.container_id)?;
        let output = self.pods.exec_sync(&container, &request.cmd, request.timeout).await?;
        Ok(Response::new(v1::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.exit_code,
        }))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let request = request.into_inner();
        let container = self.pods.container(&request.container_id)?;
        let request = convert::exec_request(request)?;
        self.pods.check_exec(&container, &request.command)?;
        let url = self.urls.url(streaming::Request::Exec(container, request))?;
        Ok(Response::new(v1::ExecResponse { url }))
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let request = request.into_inner();
        let container = self.pods.container(&request.container_id)?;
        let wanted = convert::attach_request(&request)?;
        self.pods.check_attach(&container)?;
        let url = self.urls.url(streaming::Request::Attach(container, wanted))?;
        Ok(Response::new(v1::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.pods.sandbox(&request.pod_sandbox_id)?;
        let ports = convert::ports(&request.port)?;
        self.pods.check_port_forward(&sandbox)?;
        let url = self.urls.url(streaming::Request::PortForward(sandbox, ports))?;
        Ok(Response::new(v1::PortForwardResponse { url }))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        Ok(Response::new(node::status(&self.pods, request.into_inner().verbose).await))
    }

    async fn runtime_config(
        &self,
        _request: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        Ok(Response::new(node::runtime_config()))
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        node::update_runtime_config(&self.pods, request.into_inner().runtime_config)?;
        Ok(Response::new(v1::UpdateRuntimeConfigResponse {}))
    }

    // Calls that are not built yet.

    type StreamPodSandboxesStream = Stream<v1::StreamPodSandboxesResponse>;
    type StreamContainersStream = Stream<v1::StreamContainersResponse>;
    type StreamContainerStatsStream = Stream<v1::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Stream<v1::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Stream<v1::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Stream<v1::ContainerEventResponse>;

    async fn stream_pod_sandboxes(
        &self,
        _request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        Err(not_built("StreamPodSandboxes"))
    }

    async fn stream_containers(
        &self,
        _request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        Err(not_built("StreamContainers"))
    }

    async fn container_stats(
        &self,
        _request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        Err(not_built("ContainerStats"))
    }

    async fn list_container_stats(
        &self,
        _request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        Err(not_built("ListContainerStats"))
    }

    async fn stream_container_stats(
        &self,
        _request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        Err(not_built("StreamContainerStats"))
    }

    async fn pod_sandbox_stats(
        &self,
        _request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        Err(not_built("PodSandboxStats"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        _request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        Err(not_built("ListPodSandboxStats"))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        _request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        Err(not_built("StreamPodSandboxStats"))
    }

    async fn checkpoint_container(
        &self,
        _request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        Err(not_built("CheckpointContainer"))
    }

    async fn get_container_events(
        &self,
        _request: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        Err(not_built("GetContainerEvents"))
    }

    async fn list_metric_descriptors(
        &self,
        _request: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        Err(not_built("ListMetricDescriptors"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _request: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        Err(not_built("ListPodSandboxMetrics"))
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _request: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        Err(not_built("StreamPodSandboxMetrics"))
    }

    async fn update_pod_sandbox_resources(
        &self,
        _request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        Err(not_built("UpdatePodSandboxResources"))
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
