//! The ImageService.

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc, time::SystemTime};

use tonic::{Request, Response, Status};
use tracing::info;

use super::{info as verbose, status::of_pull, v1};
use crate::{
    image::{Auth, Image, ImageStore},
    pod::{self, Pods},
    spec,
};

/// Serves the ImageService.
#[derive(Clone)]
pub struct ImageServer {
    pods: Arc<Pods>,
}

impl ImageServer {
    /// A service over these pods' images.
    pub fn new(pods: Arc<Pods>) -> Self {
        Self { pods }
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
        images.iter().map(image_out).collect()
    }

    fn check_handler(&self, image: &v1::ImageSpec) -> Result<(), Status> {
        let name = &image.runtime_handler;
        if name.is_empty() || self.pods.options().handlers.contains(name) {
            return Ok(());
        }
        let reason = format!("runtime handler {name:?} is not configured");
        Err(spec::Error::invalid("image.runtime_handler", reason).into())
    }
}

/// The name in a request; missing or empty is a mistake.
fn name_of(image: Option<v1::ImageSpec>) -> Result<v1::ImageSpec, Status> {
    image.filter(|image| !image.image.is_empty()).ok_or_else(|| {
        spec::Error::invalid("image.image", "must name an image by reference or id").into()
    })
}

fn image_out(image: &Image) -> v1::Image {
    // `user`, `uid`, either with a group: the CRI wants the user alone.
    let user = image.config.user.split(':').next().unwrap_or_default();
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

/// Figures that are not known are absent, never zero.
fn usage(path: &Path, at: SystemTime, usage: Option<pod::Usage>) -> v1::FilesystemUsage {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
    v1::FilesystemUsage {
        timestamp: since_epoch.map_or(0, |elapsed| elapsed.as_nanos() as i64),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: path.to_string_lossy().into_owned() }),
        used_bytes: usage.map(|usage| v1::UInt64Value { value: usage.bytes }),
        inodes_used: usage.map(|usage| v1::UInt64Value { value: usage.inodes }),
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

/// Images of one message of a stream.
const IMAGES_AT_ONCE: usize = 100;

type Stream<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

#[tonic::async_trait]
impl v1::image_service_server::ImageService for ImageServer {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let images = self.filtered(request.into_inner().filter);
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    type StreamImagesStream = Stream<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let images = self.filtered(request.into_inner().filter);
        let messages: Vec<_> = images
            .chunks(IMAGES_AT_ONCE)
            .map(|images| Ok(v1::StreamImagesResponse { images: images.to_vec() }))
            .collect();
        Ok(Response::new(tokio_stream::iter(messages)))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let name = name_of(request.image)?;
        let found = self.images().find(&name.image);
        Ok(Response::new(v1::ImageStatusResponse {
            info: match &found {
                Some(image) if request.verbose => verbose::image(image),
                _ => Default::default(),
            },
            image: found.as_ref().map(image_out),
        }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let request = request.into_inner();
        let image = name_of(request.image)?;
        self.check_handler(&image)?;
        let auth = request.auth.map(auth_in);
        let of_pod = request.sandbox_config.and_then(|config| config.metadata);
        let namespace = of_pod.map(|metadata| metadata.namespace).unwrap_or_default();
        let id = self.images().pull_for(&image.image, auth, &namespace).await.map_err(of_pull)?;
        info!(image = image.image, %id, "image is pulled");
        Ok(Response::new(v1::PullImageResponse { image_ref: id.to_string() }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let image = name_of(request.into_inner().image)?;
        let images = Arc::clone(self.images());
        let name = image.image.clone();
        // Trees of files are removed, which takes a while.
        tokio::task::spawn_blocking(move || images.remove(&name))
            .await
            .map_err(|_| Status::internal("the removal was ended before it was done"))??;
        info!(image = image.image, "image is removed");
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _request: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        let images = self.images().fs_usage();
        let written = self.pods.writable_layers();
        let containers = &self.pods.options().root;
        // Kubelets take two paths for two disks (KEP-4191): on one there is one path.
        let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
        let is_split = device(containers) != device(&images.path);
        let of_containers = if is_split { containers } else { &images.path };
        let now = SystemTime::now();
        let of_images = pod::Usage { bytes: images.used_bytes, inodes: images.inodes_used };
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: vec![usage(&images.path, now, Some(of_images))],
            container_filesystems: vec![usage(
                of_containers,
                written.map_or(now, |(_, at)| at),
                written.map(|(usage, _)| usage),
            )],
        }))
    }
}
