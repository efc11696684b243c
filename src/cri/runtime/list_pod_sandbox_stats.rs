//! ListPodSandboxStats.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn list_pod_sandbox_stats(
        &self,
        request: v1::ListPodSandboxStatsRequest,
    ) -> Result<v1::ListPodSandboxStatsResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        let stats = self.filtered_sandbox_stats(&filter).await?;
        Ok(v1::ListPodSandboxStatsResponse { stats })
    }
}
