//! CreateContainer.

use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::{convert, v1},
    spec,
};

impl RuntimeServer {
    pub(super) async fn create_container(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Result<v1::CreateContainerResponse, Status> {
        let sandbox = self.pods.sandbox(&request.pod_sandbox_id)?;
        let config = request
            .config
            .ok_or_else(|| spec::Error::invalid("config", "is missing; describe the container"))?;
        let config = convert::container_config(config)?;
        let id = self.pods.create_container(&sandbox, config).await?;
        Ok(v1::CreateContainerResponse { container_id: id.to_string() })
    }
}
