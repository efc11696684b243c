//! ReopenContainerLog.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn reopen_container_log(
        &self,
        request: v1::ReopenContainerLogRequest,
    ) -> Result<v1::ReopenContainerLogResponse, Status> {
        let container = self.pods.container(&request.container_id)?;
        self.pods.reopen_log(&container).await?;
        Ok(v1::ReopenContainerLogResponse {})
    }
}
