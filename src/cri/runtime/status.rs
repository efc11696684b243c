//! Status.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{node, v1};

impl RuntimeServer {
    pub(super) async fn status(
        &self,
        request: v1::StatusRequest,
    ) -> Result<v1::StatusResponse, Status> {
        Ok(node::status(&self.pods, request.verbose).await)
    }
}
