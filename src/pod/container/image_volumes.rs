//! Images that are mounted into containers (KEP-4639).
//!
//! Every container of a pod composes its own read-only overlay of the same layers, in its own
//! mount namespace: the contents, and the memory that they take, are shared, and nothing is
//! mounted on the host.

use std::path::{Path, PathBuf};

use crate::{
    image::ImageId,
    pod::{
        Pods,
        error::{Error, Reason},
    },
    spec::{
        config::{ContainerConfig, ImageVolume, Mount},
        mounts::check_image,
    },
};

impl Pods {
    /// Finds the images among the mounts and notes in the configuration which they are.
    pub(in crate::pod) fn find_image_volumes(
        &self,
        config: &mut ContainerConfig,
        namespace: &str,
    ) -> Result<Vec<ImageId>, Error> {
        let mut found = Vec::new();
        for mount in &mut config.mounts {
            let Some(volume) = mount.image.clone() else { continue };
            let id = self.find_image_volume(mount, &volume, namespace).map_err(|source| {
                let (image, path) = (volume.image.image.clone(), mount.container_path.clone());
                Reason::ImageVolume { image, path, source }
            })?;
            mount.image = Some(ImageVolume { image_ref: id.to_string(), ..volume });
            found.push(id);
        }
        Ok(found)
    }

    fn find_image_volume(
        &self,
        mount: &Mount,
        volume: &ImageVolume,
        namespace: &str,
    ) -> Result<ImageId, Error> {
        check_image(mount, volume)?;
        let name = &volume.image.image;
        let image = self.parts.images.find(name).ok_or_else(|| Reason::NoImage(name.clone()))?;
        self.parts.images.admit(&image.id, volume.image.as_the_user_knows_it(), namespace)?;
        let sub_path = Path::new(&volume.sub_path);
        if !self.parts.images.has_path(&image.id, sub_path)? {
            return Err(Reason::NoSubPath(volume.sub_path.clone()).into());
        }
        Ok(image.id)
    }

    /// Overlay takes no single layer without one to write to.
    pub(in crate::pod) fn with_empty_layer(&self, volumes: Vec<Vec<PathBuf>>) -> Vec<Vec<PathBuf>> {
        let longer = |mut layers: Vec<PathBuf>| {
            layers.push(self.options.empty_layer());
            layers
        };
        volumes.into_iter().map(longer).collect()
    }
}
