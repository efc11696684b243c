//! ListContainerStats.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn list_container_stats(
        &self,
        request: v1::ListContainerStatsRequest,
    ) -> Result<v1::ListContainerStatsResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        let stats = self.filtered_container_stats(&filter).await?;
        Ok(v1::ListContainerStatsResponse { stats })
    }
}
