//! ListImages.

use tonic::Status;

use super::ImageServer;
use crate::cri::v1;

impl ImageServer {
    pub(super) async fn list_images(
        &self,
        request: v1::ListImagesRequest,
    ) -> Result<v1::ListImagesResponse, Status> {
        let images = self.filtered(request.filter);
        Ok(v1::ListImagesResponse { images })
    }
}
