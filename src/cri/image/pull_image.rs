//! PullImage.

use tonic::Status;
use tracing::info;

use super::{ImageServer, name_of};
use crate::{
    cri::{status::of_pull, v1},
    image::Auth,
    spec,
};

impl ImageServer {
    pub(super) async fn pull_image(
        &self,
        request: v1::PullImageRequest,
    ) -> Result<v1::PullImageResponse, Status> {
        let image = name_of(request.image)?;
        self.check_handler(&image)?;
        let auth = request.auth.map(auth_in);
        let of_pod = request.sandbox_config.and_then(|config| config.metadata);
        let namespace = of_pod.map(|metadata| metadata.namespace).unwrap_or_default();
        let id = self.pods.pull_image(&image.image, auth, &namespace).await.map_err(of_pull)?;
        info!(image = image.image, %id, "image is pulled");
        Ok(v1::PullImageResponse { image_ref: id.to_string() })
    }

    fn check_handler(&self, image: &v1::ImageSpec) -> Result<(), Status> {
        let name = &image.runtime_handler;
        if name.is_empty() || self.pods.rules().handlers.contains(name) {
            return Ok(());
        }
        let reason = format!("runtime handler {name:?} is not configured");
        Err(spec::Error::invalid("image.runtime_handler", reason).into())
    }
}

fn auth_in(auth: v1::AuthConfig) -> Auth {
    Auth {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}
