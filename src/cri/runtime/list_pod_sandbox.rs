//! ListPodSandbox.

use tonic::Status;

use super::{RuntimeServer, TAKE_UP_ALL, selects};
use crate::cri::{PodSandboxItem, convert, v1};

impl RuntimeServer {
    pub(super) async fn list_pod_sandbox(
        &self,
        request: v1::ListPodSandboxRequest,
    ) -> Result<v1::ListPodSandboxResponse, Status> {
        let items = self.filtered_sandboxes(&request.filter.unwrap_or_default()).await;
        Ok(v1::ListPodSandboxResponse { items })
    }

    /// The sandboxes that the filter lets through.
    pub(super) async fn filtered_sandboxes(
        &self,
        filter: &v1::PodSandboxFilter,
    ) -> Vec<PodSandboxItem> {
        self.pods.taken_up(TAKE_UP_ALL).await;
        let sandboxes = self.pods.sandboxes_by(&filter.id);
        let items = sandboxes.iter().map(|sandbox| {
            convert::sandbox_item(sandbox, |record, state| {
                filter.state.as_ref().is_none_or(|wanted| wanted.state == state)
                    && selects(&filter.label_selector, || &record.config.labels)
            })
        });
        items.flatten().collect()
    }
}
