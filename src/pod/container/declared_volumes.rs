//! Volumes that an image declares (`VOLUME`), which are the container's own.

use std::{fs, os::unix::fs::DirBuilderExt};

use oci_spec::runtime::Spec;

use crate::{
    image::Image,
    pod::{
        ImageVolumes, Pods,
        error::{During, Error},
        id::ContainerId,
    },
    runtime::bundle::DeclaredVolumes,
    spec::mounts,
};

impl Pods {
    /// What becomes of the volumes that an image declares, and the directory for them. It is
    /// filled when the container is started: only then is there a root filesystem to copy from.
    ///
    /// # Errors
    /// An image that declares too many; a disk that refuses.
    pub(in crate::pod) fn declare_volumes(
        &self,
        id: &ContainerId,
        image: &Image,
        spec: &Spec,
    ) -> Result<DeclaredVolumes, Error> {
        let wanted = self.options.containers.image_volumes;
        if wanted == ImageVolumes::Ignore || image.config.volumes.is_empty() {
            return Ok(DeclaredVolumes::default());
        }
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let paths = mounts::declared(&image.config.volumes, mounts)?;
        if wanted == ImageVolumes::Mkdir || paths.is_empty() {
            return Ok(DeclaredVolumes { directory: None, paths });
        }
        let directory = self.volumes_directory(id);
        let made = fs::DirBuilder::new().mode(0o700).create(&directory);
        made.during("create directory", &directory)?;
        Ok(DeclaredVolumes { directory: Some(directory), paths })
    }
}
