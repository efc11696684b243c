//! UpdateContainerResources.

use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::{convert, v1},
    spec,
};

impl RuntimeServer {
    pub(super) async fn update_container_resources(
        &self,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Result<v1::UpdateContainerResourcesResponse, Status> {
        if request.windows.is_some() {
            return Err(spec::Error::invalid("windows", "this is not a Windows node").into());
        }
        let container = self.pods.container(&request.container_id)?;
        let update = convert::resources(request.linux.unwrap_or_default());
        self.pods.update_container(&container, &update).await?;
        Ok(v1::UpdateContainerResourcesResponse {})
    }
}
