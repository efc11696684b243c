//! OCI artifacts: manifests whose blobs are files, not layers of a root filesystem. They are
//! pulled like images and mounted as volumes; no container is made from them.
//!
//! Each blob becomes a layer with one file, named by its title (the annotation
//! `org.opencontainers.image.title`), so that a file that two artifacts have is kept once. An
//! artifact has no configuration of its own, so its id is the digest of its manifest.

use std::collections::BTreeSet;

use super::{
    Digest, Error,
    fetch::{Content, Wanted},
    manifest::{Descriptor, Manifest},
    progress::Pulls,
    reference::Reference,
    unpack,
};

const TITLE: &str = "org.opencontainers.image.title";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Those from here on say nothing.
const SAY_NOTHING: usize = 2;
/// What configurations of images say they are.
const IMAGE_CONFIGS: [&str; 4] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
    "",
];

impl Manifest {
    /// By the rules of the image specification ("Guidelines for Artifact Usage"): what is in the
    /// place of the configuration is no configuration of an image; or it says nothing, and the
    /// manifest says that it is something else. An image may have a type besides.
    pub(super) fn is_artifact(&self) -> bool {
        let config = self.config.media_type.as_str();
        let is_said = !self.artifact_type.is_empty();
        match IMAGE_CONFIGS.iter().position(|known| *known == config) {
            Some(place) => is_said && place >= SAY_NOTHING,
            None => true,
        }
    }
}

/// The files of an artifact, as layers.
///
/// # Errors
/// What makes two files one, and names that are no paths.
pub(super) fn files(
    reference: &Reference,
    manifest: &Manifest,
    pulls: &Pulls,
) -> Result<Vec<Wanted>, Error> {
    let unusable = |reason: String| Error::Manifest { reference: reference.to_string(), reason };
    let mut titles = BTreeSet::new();
    let mut files = Vec::with_capacity(manifest.layers.len());
    // What is in the place of nothing is no file.
    for blob in manifest.layers.iter().filter(|blob| blob.media_type != EMPTY) {
        let title = title_of(blob);
        unpack::check_path(title.as_bytes())
            .map_err(|reason| unusable(format!("it has a file named {title:?}: {reason}")))?;
        if !titles.insert(title.clone()) {
            return Err(unusable(format!("it has two files named {title:?}")));
        }
        // No archive has this digest: its text is none.
        let key = format!("artifact file\0{title}\0{}", blob.digest);
        let diff_id = Digest::of(key.as_bytes());
        files.push(Wanted {
            compressed: blob.digest,
            size: blob.size,
            diff_id,
            content: Content::File(title),
            counters: pulls.layer((blob.digest, diff_id), blob.size),
        });
    }
    if files.is_empty() {
        return Err(unusable("it is an artifact without files".to_owned()));
    }
    Ok(files)
}

fn title_of(blob: &Descriptor) -> String {
    let title = blob.annotations.get(TITLE).filter(|title| !title.is_empty());
    title.cloned().unwrap_or_else(|| blob.digest.to_string().replace(':', "-"))
}
