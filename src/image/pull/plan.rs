//! What a pull is to bring: from the reference to a manifest, a configuration and layers.

use super::super::{
    Digest, Error, ImageId, artifact,
    config::Document as Config,
    fetch::{Content, Wanted},
    manifest::{self, CONFIG_LIMIT, Descriptor, Document, Manifest},
    platform::{Platform, check_platform},
    progress::Pulls,
    records::Records,
    reference::Reference,
    registry::Session,
};

/// Indexes may list indexes, but not without end.
const INDEX_DEPTH: usize = 3;

/// What a pull is to bring.
pub(super) struct Plan {
    pub(super) id: ImageId,
    /// The configuration document.
    pub(super) config: String,
    pub(super) layers: Vec<Wanted>,
}

/// What an image needs.
pub(super) async fn of_image(
    records: &Records,
    session: &Session,
    manifest: &Manifest,
    pulls: &Pulls,
) -> Result<Plan, Error> {
    let (document, config) = configuration(records, session, manifest).await?;
    let layers = pair_up(&session.reference, manifest, &config, pulls)?;
    let config = text(&session.reference, document)?;
    Ok(Plan { id: ImageId(manifest.config.digest), config, layers })
}

/// What an artifact needs.
pub(super) fn of_artifact(
    session: &Session,
    manifest: &Manifest,
    manifests: &[Digest],
    pulls: &Pulls,
) -> Result<Plan, Error> {
    let layers = artifact::files(&session.reference, manifest, pulls)?;
    let own = manifests.last().copied().unwrap_or(manifest.config.digest);
    Ok(Plan { id: ImageId(own), config: "{}".to_owned(), layers })
}

/// The manifest for this machine, and the digests of the documents that led to it: first that
/// of the one that the reference named, last its own.
pub(super) async fn image_manifest(session: &Session) -> Result<(Manifest, Vec<Digest>), Error> {
    let platform = Platform::here();
    let (mut bytes, mut media_type, digest) = session.manifest().await?;
    let mut digests = vec![digest];
    for _ in 0..INDEX_DEPTH {
        let document = Document::parse(&bytes, &media_type)
            .map_err(|reason| Error::unusable(&session.reference, reason))?;
        let manifests = match document {
            Document::Image(manifest) => return Ok((*manifest, digests)),
            Document::Index(manifests) => manifests,
        };
        let chosen =
            manifest::choose(&manifests, &platform).map_err(|offered| Error::Platform {
                reference: session.reference.to_string(),
                wanted: platform.describe(),
                offered,
            })?;
        (bytes, media_type) = session.manifest_at(&chosen.digest).await?;
        digests.push(chosen.digest);
    }
    Err(Error::unusable(&session.reference, "its index lists indexes of indexes"))
}

/// The configuration: of the image that is here already, or from the registry.
async fn configuration(
    records: &Records,
    session: &Session,
    manifest: &Manifest,
) -> Result<(Vec<u8>, Config), Error> {
    let id = ImageId(manifest.config.digest);
    let known = records.lock().images.record(&id).map(|record| record.config.clone().into_bytes());
    let bytes = match known {
        Some(bytes) => bytes,
        None => session.small_blob(&manifest.config.digest, CONFIG_LIMIT).await?,
    };
    let config = Config::parse(&bytes).map_err(|error| {
        Error::unusable(&session.reference, format!("its configuration does not parse: {error}"))
    })?;
    check_platform(&session.reference, &config.platform)?;
    Ok((bytes, config))
}

fn pair_up(
    reference: &Reference,
    manifest: &Manifest,
    config: &Config,
    pulls: &Pulls,
) -> Result<Vec<Wanted>, Error> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let reason = format!(
            "its manifest has {} layers and its configuration {}; push it anew",
            manifest.layers.len(),
            diff_ids.len()
        );
        return Err(Error::unusable(reference, reason));
    }
    let pair = |(layer, diff_id): (&Descriptor, &Digest)| Wanted {
        compressed: layer.digest,
        size: layer.size,
        diff_id: *diff_id,
        content: Content::Archive,
        counters: pulls.layer((layer.digest, *diff_id), layer.size),
    };
    Ok(manifest.layers.iter().zip(diff_ids).map(pair).collect())
}

fn text(reference: &Reference, document: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(document)
        .map_err(|_| Error::unusable(reference, "its configuration is not UTF-8"))
}
