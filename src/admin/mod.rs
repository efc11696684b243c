//! What the `criquet` command asks of a running daemon, on the socket of the CRI.
//!
//! Entry points: `Administrator`, which serves, and `client`, which asks.

pub mod client;
mod export;
pub mod import;
mod inspect;
pub mod inventory;
pub mod metrics;
mod networks;
mod pull;
mod status;

use std::{path::PathBuf, sync::Arc, time::Instant};

use tonic::{Request, Response, Status};
use tracing::info;

use crate::{
    image::{Image, ImageStore},
    pod::Pods,
    spec,
};

/// Messages and service, generated from `proto/criquet/v1/admin.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("criquet.v1");

    /// The compiled descriptor of the interface.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/admin-descriptor.bin"));
}

use metrics::Metrics;
use v1::{
    ExportImagesRequest, ImageMetricsRequest, ImageMetricsResponse, ImportImagesRequest,
    ImportImagesResponse, ImportedImage, InspectPodRequest, InspectPodResponse, InventoryRequest,
    InventoryResponse, ListNetworksRequest, ListNetworksResponse, ListPullsRequest,
    ListPullsResponse, MetricsRequest, MetricsResponse, PullImageRequest, RemoveNetworkRequest,
    RemoveNetworkResponse, RemoveStrayRequest, RemoveStrayResponse, StatusRequest, StatusResponse,
    VerifyImagesRequest, VerifyImagesResponse, admin_server::Admin,
};

/// Serves administrators.
pub struct Administrator {
    pods: Arc<Pods>,
    metrics: Arc<Metrics>,
    socket: PathBuf,
    since: Instant,
}

impl Administrator {
    /// A service over these pods, with their figures, of a daemon that listens there.
    pub fn new(pods: Arc<Pods>, metrics: Arc<Metrics>, socket: PathBuf) -> Self {
        Self { pods, metrics, socket, since: Instant::now() }
    }

    fn images(&self) -> &Arc<ImageStore> {
        self.pods.images()
    }
}

#[tonic::async_trait]
impl Admin for Administrator {
    async fn import_images(
        &self,
        request: Request<ImportImagesRequest>,
    ) -> Result<Response<ImportImagesResponse>, Status> {
        let request = request.into_inner();
        let origin = import::origin(&request);
        if !origin.path().is_absolute() {
            return Err(spec::Error::invalid("path", "must be absolute").into());
        }
        let imported = self.images().long_aside(move |images| images.import_from(&origin)).await?;
        info!(
            images = imported.images.len(),
            passed_over = imported.passed_over.len(),
            "images are imported"
        );
        Ok(Response::new(import::response(imported)))
    }

    type ExportImagesStream = export::Stream;

    async fn export_images(
        &self,
        request: Request<ExportImagesRequest>,
    ) -> Result<Response<Self::ExportImagesStream>, Status> {
        let names = request.into_inner().names;
        Ok(Response::new(export::export(Arc::clone(self.images()), names)))
    }

    type PullImageStream = pull::Stream;

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        Ok(Response::new(pull::pull(Arc::clone(&self.pods), request.into_inner())?))
    }

    async fn list_pulls(
        &self,
        _request: Request<ListPullsRequest>,
    ) -> Result<Response<ListPullsResponse>, Status> {
        let pulls = self.images().pulls().into_iter().map(pull::progress_out).collect();
        Ok(Response::new(ListPullsResponse { pulls }))
    }

    async fn verify_images(
        &self,
        _request: Request<VerifyImagesRequest>,
    ) -> Result<Response<VerifyImagesResponse>, Status> {
        let broken = self.images().long_aside(ImageStore::verify).await?;
        let broken = broken.iter().map(imported_image).collect();
        Ok(Response::new(VerifyImagesResponse { broken }))
    }

    async fn image_metrics(
        &self,
        _request: Request<ImageMetricsRequest>,
    ) -> Result<Response<ImageMetricsResponse>, Status> {
        Ok(Response::new(ImageMetricsResponse { text: self.images().metrics() }))
    }

    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.status_now().await))
    }

    async fn metrics(
        &self,
        _request: Request<MetricsRequest>,
    ) -> Result<Response<MetricsResponse>, Status> {
        let text = Arc::clone(&self.metrics).text().await.map_err(Status::internal)?;
        Ok(Response::new(MetricsResponse { text }))
    }

    async fn list_networks(
        &self,
        request: Request<ListNetworksRequest>,
    ) -> Result<Response<ListNetworksResponse>, Status> {
        Ok(Response::new(self.networks(request.into_inner().check).await?))
    }

    async fn remove_network(
        &self,
        _request: Request<RemoveNetworkRequest>,
    ) -> Result<Response<RemoveNetworkResponse>, Status> {
        self.pods.network().remove_builtin().await?;
        info!("the built-in network is removed from the host");
        Ok(Response::new(RemoveNetworkResponse {}))
    }

    async fn inspect_pod(
        &self,
        request: Request<InspectPodRequest>,
    ) -> Result<Response<InspectPodResponse>, Status> {
        let sandbox = self.pods.sandbox(&request.into_inner().sandbox_id)?;
        Ok(Response::new(inspect::pod(&self.pods, &sandbox).await?))
    }

    async fn inventory(
        &self,
        _request: Request<InventoryRequest>,
    ) -> Result<Response<InventoryResponse>, Status> {
        Ok(Response::new(inventory::now(&self.pods).await?))
    }

    async fn remove_stray(
        &self,
        request: Request<RemoveStrayRequest>,
    ) -> Result<Response<RemoveStrayResponse>, Status> {
        let request = request.into_inner();
        inventory::remove(&self.pods, request.kind(), &request.name).await?;
        info!(kind = request.kind().as_str_name(), name = request.name, "a stray is removed");
        Ok(Response::new(RemoveStrayResponse {}))
    }
}

/// An image as the command prints it.
pub fn imported_image(image: &Image) -> ImportedImage {
    ImportedImage { id: image.id.to_string(), names: image.repo_tags.clone() }
}
