//! What the `criquet` command asks of a running daemon, on the socket of the CRI.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Uri},
};
use tracing::info;

use crate::{image::Image, pod::Pods, spec};

/// Messages and service, generated from `proto/criquet/v1/admin.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("criquet.v1");
}

use v1::{
    ImportImagesRequest, ImportImagesResponse, ImportedImage, admin_client::AdminClient,
    admin_server::Admin,
};

/// Serves administrators.
pub struct Administrator {
    pods: Arc<Pods>,
}

impl Administrator {
    /// A service over these pods.
    pub fn new(pods: Arc<Pods>) -> Self {
        Self { pods }
    }
}

#[tonic::async_trait]
impl Admin for Administrator {
    async fn import_images(
        &self,
        request: Request<ImportImagesRequest>,
    ) -> Result<Response<ImportImagesResponse>, Status> {
        let path = PathBuf::from(request.into_inner().path);
        if !path.is_absolute() {
            return Err(spec::Error::invalid("path", "must be absolute").into());
        }
        let images = Arc::clone(self.pods.images());
        let imported = tokio::task::spawn_blocking(move || images.import(&path))
            .await
            .map_err(|_| Status::internal("the import was ended before it was done"))??;
        info!(images = imported.len(), "images are imported");
        let images = imported.iter().map(imported_image).collect();
        Ok(Response::new(ImportImagesResponse { images }))
    }
}

/// An image as the command prints it.
pub fn imported_image(image: &Image) -> ImportedImage {
    ImportedImage { id: image.id.to_string(), names: image.repo_tags.clone() }
}

/// Asks the daemon at `socket` to import an archive.
///
/// # Errors
/// What the daemon answers; `UNAVAILABLE` where none listens.
pub async fn import(socket: &Path, archive: &Path) -> Result<Vec<ImportedImage>, Status> {
    let request = ImportImagesRequest { path: archive.to_string_lossy().into_owned() };
    let mut client = AdminClient::new(channel(socket.to_owned()));
    Ok(client.import_images(request).await?.into_inner().images)
}

fn channel(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    // The address is never looked at: the connector knows the socket.
    Endpoint::from_static("http://criquet").connect_with_connector_lazy(connector)
}
