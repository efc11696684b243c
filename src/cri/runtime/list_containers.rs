//! ListContainers.

use tonic::Status;

use super::{RuntimeServer, TAKE_UP_ALL, selects};
use crate::cri::{convert, v1};

impl RuntimeServer {
    pub(super) async fn list_containers(
        &self,
        request: v1::ListContainersRequest,
    ) -> Result<v1::ListContainersResponse, Status> {
        let containers = self.filtered_containers(&request.filter.unwrap_or_default()).await;
        Ok(v1::ListContainersResponse { containers })
    }

    /// The containers that the filter lets through.
    pub(super) async fn filtered_containers(
        &self,
        filter: &v1::ContainerFilter,
    ) -> Vec<v1::Container> {
        self.pods.taken_up(TAKE_UP_ALL).await;
        let containers = self.pods.containers();
        let items = containers.iter().map(|container| convert::container_item(container));
        items.filter(|item| matches(filter, item)).collect()
    }
}

fn matches(filter: &v1::ContainerFilter, container: &v1::Container) -> bool {
    container.id.starts_with(&filter.id)
        && container.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|state| state.state == container.state)
        && selects(&filter.label_selector, &container.labels)
}
