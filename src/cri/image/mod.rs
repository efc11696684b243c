//! The ImageService: one file for each call, named after it.

mod image_fs_info;
mod image_status;
mod list_images;
mod pull_image;
mod remove_image;
mod stream_images;

use std::sync::Arc;

use tokio::sync::OnceCell;
use tonic::{Request, Response, Status};

use super::{chunks::Answers, v1};
use crate::{
    image::{Image, ImageStore},
    pod::Pods,
    spec,
};

/// Serves the ImageService.
#[derive(Clone)]
pub struct ImageServer {
    pods: Arc<Pods>,
    /// Whether images and containers are on two disks.
    is_split: Arc<OnceCell<bool>>,
}

impl ImageServer {
    /// A service over these pods' images.
    pub fn new(pods: Arc<Pods>) -> Self {
        Self { pods, is_split: Arc::default() }
    }

    fn images(&self) -> &Arc<ImageStore> {
        self.pods.images()
    }

    fn filtered(&self, filter: Option<v1::ImageFilter>) -> Vec<v1::Image> {
        let name = filter.and_then(|filter| filter.image).map(|image| image.image);
        let images = match name.filter(|name| !name.is_empty()) {
            Some(name) => self.images().find(&name).into_iter().collect(),
            None => self.images().list(),
        };
        images.iter().map(listed).collect()
    }
}

/// The name in a request; missing or empty is a mistake.
fn name_of(image: Option<v1::ImageSpec>) -> Result<v1::ImageSpec, Status> {
    image.filter(|image| !image.image.is_empty()).ok_or_else(|| {
        spec::Error::invalid("image.image", "must name an image by reference or id").into()
    })
}

/// The longest name of a user that is told; the kernel's tools know none that is longer.
const LONGEST_USER: usize = 256;

/// An image of a list, which must have room for thousands: what a stranger can write at length
/// is told by ImageStatus alone.
fn listed(image: &Image) -> v1::Image {
    v1::Image { spec: Some(v1::ImageSpec::default()), ..image_out(image) }
}

fn image_out(image: &Image) -> v1::Image {
    // `user`, `uid`, either with a group: the CRI wants the user alone.
    let user = image.config.user.split(':').next().unwrap_or_default();
    let user = if user.len() > LONGEST_USER { "" } else { user };
    let uid = user.parse::<u32>().ok().map(i64::from);
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: uid.map(|value| v1::Int64Value { value }),
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        spec: Some(v1::ImageSpec {
            annotations: image.annotations.clone().into_iter().collect(),
            ..v1::ImageSpec::default()
        }),
        pinned: image.pinned,
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::image_service_server::ImageService for ImageServer {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        ImageServer::list_images(self, request.into_inner()).await.map(Response::new)
    }

    type StreamImagesStream = Answers<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        ImageServer::stream_images(self, request.into_inner()).await.map(Response::new)
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        ImageServer::image_status(self, request.into_inner()).await.map(Response::new)
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        ImageServer::pull_image(self, request.into_inner()).await.map(Response::new)
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        ImageServer::remove_image(self, request.into_inner()).await.map(Response::new)
    }

    async fn image_fs_info(
        &self,
        request: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        ImageServer::image_fs_info(self, request.into_inner()).await.map(Response::new)
    }
}
