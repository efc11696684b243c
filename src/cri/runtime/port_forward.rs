//! PortForward.

use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::{convert, v1},
    streaming,
};

impl RuntimeServer {
    pub(super) async fn port_forward(
        &self,
        request: v1::PortForwardRequest,
    ) -> Result<v1::PortForwardResponse, Status> {
        let sandbox = self.pods.sandbox(&request.pod_sandbox_id)?;
        let ports = convert::ports(&request.port)?;
        self.pods.check_port_forward(&sandbox).await?;
        let url = self.urls.url(streaming::Request::PortForward(sandbox, ports))?;
        Ok(v1::PortForwardResponse { url })
    }
}
