//! PodSandboxStats.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn pod_sandbox_stats(
        &self,
        request: v1::PodSandboxStatsRequest,
    ) -> Result<v1::PodSandboxStatsResponse, Status> {
        let sandbox = self.pods.sandbox(&request.pod_sandbox_id)?;
        let reading = self.pods.sandbox_usage(&sandbox).await?;
        let mut readings = std::collections::BTreeMap::new();
        let containers = self.pods.containers_of(&sandbox);
        for container in &containers {
            if let Some(reading) = self.pods.container_usage(container).await? {
                readings.insert(container.id.to_string(), reading);
            }
        }
        let stats = self.sandbox_stats(&sandbox, reading.as_ref(), &containers, &readings);
        Ok(v1::PodSandboxStatsResponse { stats: Some(stats) })
    }
}
