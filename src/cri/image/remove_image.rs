//! RemoveImage.

use std::sync::Arc;

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
        let images = Arc::clone(self.images());
        let name = image.image.clone();
        // Trees of files are removed, which takes a while.
        tokio::task::spawn_blocking(move || images.remove(&name))
            .await
            .map_err(|_| Status::internal("the removal was ended before it was done"))??;
        info!(image = image.image, "image is removed");
        Ok(v1::RemoveImageResponse {})
    }
}
