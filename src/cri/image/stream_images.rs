//! StreamImages.

use tonic::Status;

use super::ImageServer;
use crate::cri::{
    chunks::{Answers, answers},
    v1,
};

impl ImageServer {
    pub(super) async fn stream_images(
        &self,
        request: v1::StreamImagesRequest,
    ) -> Result<Answers<v1::StreamImagesResponse>, Status> {
        let images = self.filtered(request.filter);
        Ok(answers(images, |images| v1::StreamImagesResponse { images }))
    }
}
