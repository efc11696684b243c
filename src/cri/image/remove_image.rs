//! RemoveImage.

use tonic::Status;
use tracing::info;

use super::{ImageServer, name_of};
use crate::cri::v1;

impl ImageServer {
    pub(super) async fn remove_image(
        &self,
        request: v1::RemoveImageRequest,
    ) -> Result<v1::RemoveImageResponse, Status> {
        let image = name_of(request.image)?;
        let name = image.image.clone();
        self.images().aside(move |images| images.remove(&name)).await?;
        info!(image = image.image, "image is removed");
        Ok(v1::RemoveImageResponse {})
    }
}
