//! Imports: from a message to where images come from, and back.

use std::path::PathBuf;

use super::{
    imported_image,
    v1::{ImageOrigin, ImportImagesRequest, ImportImagesResponse, PassedOverImage},
};
use crate::image::{Imported, KUBERNETES, Origin};

/// Where a request wants images from.
pub fn origin(request: &ImportImagesRequest) -> Origin {
    let path = PathBuf::from(&request.path);
    match request.origin() {
        ImageOrigin::Unspecified => Origin::Any(path),
        ImageOrigin::DockerArchive => Origin::DockerArchive(path),
        ImageOrigin::Oci => Origin::Oci(path),
        ImageOrigin::Containerd => {
            let namespace = match request.namespace.as_str() {
                "" => KUBERNETES.to_owned(),
                other => other.to_owned(),
            };
            Origin::Containerd { root: path, namespace }
        }
    }
}

/// What has come of an import, as a message.
pub fn response(imported: Imported) -> ImportImagesResponse {
    let passed_over = imported.passed_over.into_iter();
    ImportImagesResponse {
        images: imported.images.iter().map(imported_image).collect(),
        passed_over: passed_over.map(|(name, reason)| PassedOverImage { name, reason }).collect(),
    }
}
