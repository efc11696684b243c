//! What a pull is to bring: from the reference to a manifest, a configuration and layers.

use super::super::{
    Digest, Error, ImageId, artifact,
    config::Document as Config,
    fetch::{Content, Wanted},
    manifest::{CONFIG_LIMIT, Descriptor, Document, Manifest},
    progress::Pulls,
    records::Records,
    reference::Reference,
    registry::Session,
    search::Search,
};

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
    config.platform.warn_if_other(&session.reference);
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
/// of the one that the reference named, last its own. A manifest that is named by itself is
/// meant, whatever it says whom it is for.
pub(super) async fn image_manifest(
    records: &Records,
    session: &Session,
) -> Result<(Manifest, Vec<Digest>), Error> {
    let (bytes, media_type, digest) = session.manifest().await?;
    let mut search = match parse(session, &bytes, &media_type)? {
        Document::Image(manifest) => return Ok((*manifest, vec![digest])),
        Document::Index(entries) => Search::among(entries, digest),
    };
    while let Some(way) = search.next() {
        let (bytes, media_type) = session.manifest_at(&way.descriptor.digest).await?;
        match parse(session, &bytes, &media_type)? {
            Document::Index(entries) => search.go_on(&way, entries),
            Document::Image(manifest) => {
                let is_sure = way.is_for_us() || manifest.is_artifact();
                let fits = is_sure || {
                    let (_, config) = configuration(records, session, &manifest).await?;
                    search.fits(&config.platform)
                };
                if fits {
                    return Ok((*manifest, way.digests));
                }
            }
        }
    }
    Err(search.error(&session.reference))
}

fn parse(session: &Session, bytes: &[u8], media_type: &str) -> Result<Document, Error> {
    Document::parse(bytes, media_type).map_err(|reason| Error::unusable(&session.reference, reason))
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
