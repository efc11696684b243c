//! StreamContainers.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::{
    chunks::{Answers, answers},
    v1,
};

impl RuntimeServer {
    pub(super) async fn stream_containers(
        &self,
        request: v1::StreamContainersRequest,
    ) -> Result<Answers<v1::StreamContainersResponse>, Status> {
        let filter = request.filter.unwrap_or_default();
        let items = self.filtered_containers(&filter).await;
        Ok(answers(items, |containers| v1::StreamContainersResponse { containers }))
    }
}
