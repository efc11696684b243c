//! ImageStatus.

use tonic::Status;

use super::{ImageServer, image_out, name_of};
use crate::cri::{info, v1};

impl ImageServer {
    pub(super) async fn image_status(
        &self,
        request: v1::ImageStatusRequest,
    ) -> Result<v1::ImageStatusResponse, Status> {
        let name = name_of(request.image)?;
        let found = self.images().find(&name.image);
        Ok(v1::ImageStatusResponse {
            info: match &found {
                Some(image) if request.verbose => info::image(image),
                _ => Default::default(),
            },
            image: found.as_ref().map(image_out),
        })
    }
}
