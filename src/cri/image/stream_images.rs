//! StreamImages.

use tonic::Status;

use super::{ImageServer, Stream};
use crate::cri::v1;

/// Images of one message of a stream.
const IMAGES_AT_ONCE: usize = 100;

impl ImageServer {
    pub(super) async fn stream_images(
        &self,
        request: v1::StreamImagesRequest,
    ) -> Result<Stream<v1::StreamImagesResponse>, Status> {
        let images = self.filtered(request.filter);
        let messages: Vec<_> = images
            .chunks(IMAGES_AT_ONCE)
            .map(|images| Ok(v1::StreamImagesResponse { images: images.to_vec() }))
            .collect();
        Ok(tokio_stream::iter(messages))
    }
}
