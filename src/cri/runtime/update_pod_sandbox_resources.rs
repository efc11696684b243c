//! UpdatePodSandboxResources.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{convert, v1};

impl RuntimeServer {
    pub(super) async fn update_pod_sandbox_resources(
        &self,
        request: v1::UpdatePodSandboxResourcesRequest,
    ) -> Result<v1::UpdatePodSandboxResourcesResponse, Status> {
        let sandbox = self.pods.sandbox(&request.pod_sandbox_id)?;
        let overhead = request.overhead.map(convert::resources);
        let needs = request.resources.map(convert::resources);
        self.pods.update_sandbox(&sandbox, overhead, needs).await?;
        Ok(v1::UpdatePodSandboxResourcesResponse {})
    }
}
