//! ContainerStatus.

use std::collections::HashMap;

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{info, v1};

impl RuntimeServer {
    pub(super) async fn container_status(
        &self,
        request: v1::ContainerStatusRequest,
    ) -> Result<v1::ContainerStatusResponse, Status> {
        let container = self.pods.container(&request.container_id)?;
        let info = match request.verbose {
            true => info::container(&self.pods, &container),
            false => HashMap::new(),
        };
        let status = Some(self.status_of(&container));
        Ok(v1::ContainerStatusResponse { status, info })
    }
}
