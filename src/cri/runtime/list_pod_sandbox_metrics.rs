//! ListPodSandboxMetrics.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn list_pod_sandbox_metrics(
        &self,
        _request: v1::ListPodSandboxMetricsRequest,
    ) -> Result<v1::ListPodSandboxMetricsResponse, Status> {
        Ok(v1::ListPodSandboxMetricsResponse { pod_metrics: self.pod_metrics().await? })
    }
}
