//! RemoveContainer.

use tonic::Status;

use super::{RuntimeServer, if_there};
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn remove_container(
        &self,
        request: v1::RemoveContainerRequest,
    ) -> Result<v1::RemoveContainerResponse, Status> {
        if let Some(container) = if_there(self.pods.container(&request.container_id))? {
            self.pods.remove_container(&container).await?;
        }
        Ok(v1::RemoveContainerResponse {})
    }
}
