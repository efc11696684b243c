//! ListMetricDescriptors.

use tonic::Status;

use super::RuntimeServer;
use crate::cri::v1;

impl RuntimeServer {
    pub(super) async fn list_metric_descriptors(
        &self,
        _request: v1::ListMetricDescriptorsRequest,
    ) -> Result<v1::ListMetricDescriptorsResponse, Status> {
        Ok(v1::ListMetricDescriptorsResponse { descriptors: self.table.descriptors() })
    }
}
