//! A CRI client for any runtime.

use std::path::PathBuf;

use anyhow::Context;
use criquet::cri::v1::{
    ImageSpec, ImageStatusRequest, PullImageRequest, RemoveImageRequest, VersionRequest,
    image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};
use tonic::transport::{Channel, Endpoint};

/// The longest answer, in bytes, as the kubelet has it.
pub const LIMIT: usize = 16 << 20;

/// Both services of a runtime; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// Pods and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
    /// The connection of both.
    pub channel: Channel,
    /// The socket.
    pub socket: PathBuf,
}

impl Client {
    /// Connects to `unix:///path`.
    pub async fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let socket =
            endpoint.strip_prefix("unix://").context("an endpoint has the form unix:///path")?;
        // As a kubelet's client, whose windows grow with what comes.
        let endpoint_of = Endpoint::try_from(endpoint.to_owned())?.http2_adaptive_window(true);
        let channel = endpoint_of.connect().await?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LIMIT),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(LIMIT),
            channel,
            socket: socket.into(),
        })
    }

    /// Name and version of the runtime.
    pub async fn version(&self) -> anyhow::Result<String> {
        let version = self.runtime.clone().version(VersionRequest::default()).await?.into_inner();
        Ok(format!("{} {}", version.runtime_name, version.runtime_version))
    }

    /// Pulls an image unless it is there.
    pub async fn ensure_image(&self, image: &str) -> anyhow::Result<()> {
        let request = ImageStatusRequest { image: Some(spec(image)), verbose: false };
        if self.images.clone().image_status(request).await?.into_inner().image.is_none() {
            self.pull(image).await?;
        }
        Ok(())
    }

    /// Pulls an image.
    pub async fn pull(&self, image: &str) -> anyhow::Result<()> {
        let request = PullImageRequest { image: Some(spec(image)), ..Default::default() };
        let result = self.images.clone().pull_image(request).await;
        result.map(drop).with_context(|| format!("pulling {image}"))
    }

    /// Removes an image, or does nothing when it is absent.
    pub async fn remove_image(&self, image: &str) -> anyhow::Result<()> {
        let request = RemoveImageRequest { image: Some(spec(image)) };
        self.images.clone().remove_image(request).await?;
        Ok(())
    }
}

/// How requests name an image.
pub fn spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..Default::default() }
}
