//! ContainerStats.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn container_stats(
        &self,
        request: v1::ContainerStatsRequest,
    ) -> Result<v1::ContainerStatsResponse, Status> {
        let container = self.pods.container(&request.container_id)?;
        let reading = self.pods.container_usage(&container).await?;
        let stats = Some(self.stats_of(&container, reading.as_ref()));
        Ok(v1::ContainerStatsResponse { stats })
    }
}
