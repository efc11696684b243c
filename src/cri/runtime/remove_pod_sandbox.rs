//! RemovePodSandbox.

use tonic::Status;

use super::{RuntimeServer, if_there};
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn remove_pod_sandbox(
        &self,
        request: v1::RemovePodSandboxRequest,
    ) -> Result<v1::RemovePodSandboxResponse, Status> {
        if let Some(sandbox) = if_there(self.pods.sandbox(&request.pod_sandbox_id))? {
            self.pods.remove_sandbox(&sandbox).await?;
        }
        Ok(v1::RemovePodSandboxResponse {})
    }
}
