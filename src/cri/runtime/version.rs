//! Version.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{node, v1};

impl RuntimeServer {
    pub(super) async fn version(
        &self,
        _request: v1::VersionRequest,
    ) -> Result<v1::VersionResponse, Status> {
        Ok(node::version())
    }
}
