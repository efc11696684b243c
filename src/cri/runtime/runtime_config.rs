//! RuntimeConfig.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{node, v1};

impl RuntimeServer {
    pub(super) async fn runtime_config(
        &self,
        _request: v1::RuntimeConfigRequest,
    ) -> Result<v1::RuntimeConfigResponse, Status> {
        Ok(node::runtime_config(&self.pods))
    }
}
