//! ListPodSandbox.

use tonic::Status;

use super::{RuntimeServer, TAKE_UP_ALL, sandbox_matches};
use crate::cri::{convert, v1};

impl RuntimeServer {
    pub(super) async fn list_pod_sandbox(
        &self,
        request: v1::ListPodSandboxRequest,
    ) -> Result<v1::ListPodSandboxResponse, Status> {
        self.pods.taken_up(TAKE_UP_ALL).await;
        let filter = request.filter.unwrap_or_default();
        let sandboxes = self.pods.sandboxes();
        let items = sandboxes
            .iter()
            .map(|sandbox| convert::sandbox_item(sandbox))
            .filter(|item| sandbox_matches(&filter, item))
            .collect();
        Ok(v1::ListPodSandboxResponse { items })
    }
}
