//! Exec.

use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::{convert, v1},
    streaming,
};

impl RuntimeServer {
    pub(super) async fn exec(&self, request: v1::ExecRequest) -> Result<v1::ExecResponse, Status> {
        let container = self.pods.container(&request.container_id)?;
        let request = convert::exec_request(request)?;
        self.pods.check_exec(&container, &request.command)?;
        let url = self.urls.url(streaming::Request::Exec(container, request))?;
        Ok(v1::ExecResponse { url })
    }
}
