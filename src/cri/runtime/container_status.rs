//! ContainerStatus.

use std::collections::HashMap;

use tonic::Status;

use super::{RuntimeServer, TAKE_UP};
use crate::cri::{info, v1};

impl RuntimeServer {
    pub(super) async fn container_status(
        &self,
        request: v1::ContainerStatusRequest,
    ) -> Result<v1::ContainerStatusResponse, Status> {
        let container = self.pods.container(&request.container_id)?;
        if let Ok(sandbox) = self.pods.sandbox_of(&container) {
            sandbox.taken_up(TAKE_UP).await;
        }
        let info = match request.verbose {
            true => info::container(&self.pods, &container).await,
            false => HashMap::new(),
        };
        let status = Some(self.status_of(&container));
        Ok(v1::ContainerStatusResponse { status, info })
    }
}
