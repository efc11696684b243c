//! ListContainers.

use tonic::Status;

use super::{RuntimeServer, TAKE_UP_ALL, container_matches};
use crate::cri::{convert, v1};

impl RuntimeServer {
    pub(super) async fn list_containers(
        &self,
        request: v1::ListContainersRequest,
    ) -> Result<v1::ListContainersResponse, Status> {
        self.pods.taken_up(TAKE_UP_ALL).await;
        let filter = request.filter.unwrap_or_default();
        let containers = self.pods.containers();
        let containers = containers
            .iter()
            .map(|container| convert::container_item(container))
            .filter(|item| container_matches(&filter, item))
            .collect();
        Ok(v1::ListContainersResponse { containers })
    }
}
