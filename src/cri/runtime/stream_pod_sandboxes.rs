//! StreamPodSandboxes.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{
    chunks::{Answers, answers},
    v1,
};

impl RuntimeServer {
    pub(super) async fn stream_pod_sandboxes(
        &self,
        request: v1::StreamPodSandboxesRequest,
    ) -> Result<Answers<v1::StreamPodSandboxesResponse>, Status> {
        let filter = request.filter.unwrap_or_default();
        let items = self.filtered_sandboxes(&filter).await;
        Ok(answers(items, |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes }))
    }
}
