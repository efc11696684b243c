//! ListContainers.

use tonic::Status;

use super::{RuntimeServer, TAKE_UP_ALL, selects};
use crate::cri::{ContainerItem, convert, v1};

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
    ) -> Vec<ContainerItem> {
        self.pods.taken_up(TAKE_UP_ALL).await;
        let containers = self.pods.containers_by(&filter.pod_sandbox_id, &filter.id);
        let items = containers.iter().map(|container| {
            convert::container_item(container, |record, state| {
                filter.state.as_ref().is_none_or(|wanted| wanted.state == state)
                    && selects(&filter.label_selector, || &record.config.labels)
            })
        });
        items.flatten().collect()
    }
}
