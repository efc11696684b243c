//! Attach.

use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::{convert, v1},
    streaming,
};

impl RuntimeServer {
    pub(super) async fn attach(
        &self,
        request: v1::AttachRequest,
    ) -> Result<v1::AttachResponse, Status> {
        let container = self.pods.container(&request.container_id)?;
        let wanted = convert::attach_request(&request)?;
        self.pods.check_attach(&container)?;
        let url = self.urls.url(streaming::Request::Attach(container, wanted))?;
        Ok(v1::AttachResponse { url })
    }
}
