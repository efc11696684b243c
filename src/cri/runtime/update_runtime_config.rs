//! UpdateRuntimeConfig.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{node, v1};

impl RuntimeServer {
    pub(super) async fn update_runtime_config(
        &self,
        request: v1::UpdateRuntimeConfigRequest,
    ) -> Result<v1::UpdateRuntimeConfigResponse, Status> {
        node::update_runtime_config(&self.pods, request.runtime_config).await?;
        Ok(v1::UpdateRuntimeConfigResponse {})
    }
}
