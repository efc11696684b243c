//! StopPodSandbox.

use tonic::Status;

use super::{RuntimeServer, if_there};
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn stop_pod_sandbox(
        &self,
        request: v1::StopPodSandboxRequest,
    ) -> Result<v1::StopPodSandboxResponse, Status> {
        if let Some(sandbox) = if_there(self.pods.sandbox(&request.pod_sandbox_id))? {
            self.pods.stop_sandbox(&sandbox).await?;
        }
        Ok(v1::StopPodSandboxResponse {})
    }
}
