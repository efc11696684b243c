//! ListPodSandbox.

use tonic::Status;

use super::{RuntimeServer, TAKE_UP_ALL, selects};
use crate::cri::{convert, v1};

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
    ) -> Vec<v1::PodSandbox> {
        self.pods.taken_up(TAKE_UP_ALL).await;
        let sandboxes = self.pods.sandboxes();
        let items = sandboxes.iter().map(|sandbox| convert::sandbox_item(sandbox));
        items.filter(|item| matches(filter, item)).collect()
    }
}

fn matches(filter: &v1::PodSandboxFilter, sandbox: &v1::PodSandbox) -> bool {
    sandbox.id.starts_with(&filter.id)
        && filter.state.as_ref().is_none_or(|state| state.state == sandbox.state)
        && selects(&filter.label_selector, &sandbox.labels)
}
