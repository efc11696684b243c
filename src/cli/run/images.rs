//! Images of a pod: there, or pulled as their policy says.

use super::{error::Error, say::Say};
use crate::{
    cli::image::{Client, size},
    cri::v1::{
        Image, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest,
        image_service_client::ImageServiceClient,
    },
    play::{Pull, Source},
};
use tonic::transport::Channel;

/// The image service of a daemon.
#[derive(Clone)]
pub(super) struct Images(ImageServiceClient<Channel>);

impl Images {
    pub(super) fn of(client: &Client) -> Self {
        Self(client.images())
    }

    /// Sees to it that an image is there.
    ///
    /// # Errors
    /// When it is not, and cannot be pulled or must not be.
    pub(super) async fn ensure(
        &self,
        image: &str,
        pull: Pull,
        sandbox: &PodSandboxConfig,
        say: &Say,
    ) -> Result<Image, Error> {
        let failed = |reason: String| Error::Image { image: image.to_owned(), reason };
        let present = self.find(image).await.map_err(Error::daemon("look for an image"))?;
        match (pull, present) {
            (Pull::IfNotPresent | Pull::Never, Some(image)) => return Ok(image),
            (Pull::Never, None) => {
                let words = "it is not here, and imagePullPolicy is Never; import it with \
                             `criquet image import`";
                return Err(failed(words.to_owned()));
            }
            (_, present) => {
                say.note(&format!("pulling {image}"));
                let request = PullImageRequest {
                    image: Some(spec(image)),
                    auth: None,
                    sandbox_config: Some(sandbox.clone()),
                };
                match (self.0.clone().pull_image(request).await, present) {
                    (Ok(_), _) => {}
                    (Err(status), Some(there)) if pull == Pull::Usually => {
                        let words =
                            format!("{image} cannot be pulled, and is here: {}", status.message());
                        say.note(&words);
                        return Ok(there);
                    }
                    (Err(status), _) => return Err(failed(status.message().to_owned())),
                }
            }
        }
        let found = self.find(image).await.map_err(Error::daemon("look for an image"))?;
        let found = found.ok_or_else(|| failed("it was removed again".to_owned()))?;
        say.note(&format!("{image} is here, {}", size(found.size)));
        Ok(found)
    }

    async fn find(&self, image: &str) -> Result<Option<Image>, tonic::Status> {
        let request = ImageStatusRequest { image: Some(spec(image)), verbose: false };
        Ok(self.0.clone().image_status(request).await?.into_inner().image)
    }

    /// Those that are volumes.
    ///
    /// # Errors
    /// Those of [`Images::ensure`].
    pub(super) async fn ensure_volumes(
        &self,
        sources: impl Iterator<Item = &Source>,
        sandbox: &PodSandboxConfig,
        say: &Say,
    ) -> Result<(), Error> {
        for source in sources {
            if let Source::Image { reference, pull } = source {
                self.ensure(reference, *pull, sandbox, say).await?;
            }
        }
        Ok(())
    }
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..ImageSpec::default() }
}
