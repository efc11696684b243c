//! StopContainer.

use tonic::Status;

use super::{RuntimeServer, if_there};
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn stop_container(
        &self,
        request: v1::StopContainerRequest,
    ) -> Result<v1::StopContainerResponse, Status> {
        if let Some(container) = if_there(self.pods.container(&request.container_id))? {
            self.pods.stop_container(&container, request.timeout).await?;
        }
        Ok(v1::StopContainerResponse {})
    }
}
