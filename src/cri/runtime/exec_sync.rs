//! ExecSync.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn exec_sync(
        &self,
        request: v1::ExecSyncRequest,
    ) -> Result<v1::ExecSyncResponse, Status> {
        let container = self.pods.container(&request.container_id)?;
        let output = self.pods.exec_sync(&container, &request.cmd, request.timeout).await?;
        Ok(v1::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.exit_code,
        })
    }
}
