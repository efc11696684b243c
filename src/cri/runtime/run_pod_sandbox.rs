//! RunPodSandbox.

use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::{convert, v1},
    spec,
};

impl RuntimeServer {
    pub(super) async fn run_pod_sandbox(
        &self,
        request: v1::RunPodSandboxRequest,
    ) -> Result<v1::RunPodSandboxResponse, Status> {
        let config = request
            .config
            .ok_or_else(|| spec::Error::invalid("config", "is missing; describe the sandbox"))?;
        let config = convert::sandbox_config(config)?;
        let id = self.pods.run_sandbox(config, request.runtime_handler).await?;
        Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
    }
}
