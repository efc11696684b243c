//! StreamContainerStats.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{
    chunks::{Answers, answers},
    v1,
};

impl RuntimeServer {
    pub(super) async fn stream_container_stats(
        &self,
        request: v1::StreamContainerStatsRequest,
    ) -> Result<Answers<v1::StreamContainerStatsResponse>, Status> {
        let filter = request.filter.unwrap_or_default();
        let stats = self.filtered_container_stats(&filter).await?;
        Ok(answers(stats, |container_stats| v1::StreamContainerStatsResponse { container_stats }))
    }
}
