//! PodSandboxStatus.

use std::{collections::HashMap, sync::Arc};

use tonic::Status;

use super::{RuntimeServer, TAKE_UP};
use crate::{
    cri::{convert, info, v1},
    pod::Sandbox,
};

impl RuntimeServer {
    pub(super) async fn pod_sandbox_status(
        &self,
        request: v1::PodSandboxStatusRequest,
    ) -> Result<v1::PodSandboxStatusResponse, Status> {
        let sandbox: Arc<Sandbox> = self.pods.sandbox(&request.pod_sandbox_id)?;
        sandbox.taken_up(TAKE_UP).await;
        let containers = self.pods.containers_of(&sandbox);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(v1::PodSandboxStatusResponse {
            status: Some(convert::sandbox_status(&sandbox)),
            info: if request.verbose { info::sandbox(&sandbox) } else { HashMap::new() },
            containers_statuses: containers
                .iter()
                .map(|container| self.status_of(container))
                .collect(),
            timestamp: now.map_or(0, |elapsed| elapsed.as_nanos() as i64),
        })
    }
}
