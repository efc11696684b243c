//! StartContainer.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn start_container(
        &self,
        request: v1::StartContainerRequest,
    ) -> Result<v1::StartContainerResponse, Status> {
        let container = self.pods.container(&request.container_id)?;
        self.pods.start_container(&container).await?;
        Ok(v1::StartContainerResponse {})
    }
}
