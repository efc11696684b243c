//! StreamPodSandboxMetrics.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{
    chunks::{Answers, answers},
    v1,
};

impl RuntimeServer {
    pub(super) async fn stream_pod_sandbox_metrics(
        &self,
        _request: v1::StreamPodSandboxMetricsRequest,
    ) -> Result<Answers<v1::StreamPodSandboxMetricsResponse>, Status> {
        let metrics = self.pod_metrics().await?;
        Ok(answers(metrics, |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse {
            pod_sandbox_metrics,
        }))
    }
}
