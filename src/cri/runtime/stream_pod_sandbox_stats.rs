//! StreamPodSandboxStats.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{
    chunks::{Answers, answers},
    v1,
};

impl RuntimeServer {
    pub(super) async fn stream_pod_sandbox_stats(
        &self,
        request: v1::StreamPodSandboxStatsRequest,
    ) -> Result<Answers<v1::StreamPodSandboxStatsResponse>, Status> {
        let filter = request.filter.unwrap_or_default();
        let stats = self.filtered_sandbox_stats(&filter).await?;
        Ok(answers(stats, |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse {
            pod_sandbox_stats,
        }))
    }
}
