//! `index.json` and `blobs/`, the OCI image layout.

use super::{CONFIG_LIMIT, Digest, Error, Found, FoundLayer, Names, source::Source};
use crate::image::{
    config::Document as Config,
    export,
    manifest::{Descriptor, Document, MANIFEST_LIMIT, Manifest, ranked},
    platform::Platform,
    reference::{Reference, Version},
    search::Search,
};

/// The full name comes first: the other one is often a mere tag, which names no image.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

pub(super) fn images(archive: &dyn Source) -> Result<Vec<Found>, Error> {
    let bytes = archive.read("index.json", MANIFEST_LIMIT)?;
    let document = Document::parse(&bytes, "").map_err(|reason| archive.wrong(&reason))?;
    let Document::Index(entries) = document else {
        return Err(archive.wrong("its index.json is not an index"));
    };
    // One by itself is meant, whatever its configuration says, as with a pull.
    if let [entry] = &entries[..]
        && !entry.platform.as_ref().is_some_and(Platform::is_whole)
        && let Document::Image(manifest) = document_of(archive, entry)?
    {
        return Ok(vec![image(archive, entry, *manifest)?]);
    }
    let mut found = Vec::new();
    let mut all = Search::among(entries.clone(), Digest::of(&bytes));
    for entry in ranked(entries, &Platform::here()) {
        if let Some(manifest) = manifest(archive, &entry, &mut all)? {
            found.push(image(archive, &entry, manifest)?);
        }
    }
    if found.is_empty() { Err(all.error(&archive.name())) } else { Ok(found) }
}

/// The image that an entry leads to on this machine.
pub(super) fn image_at(archive: &dyn Source, entry: &Descriptor) -> Result<Found, Error> {
    let mut all = Search::among(vec![entry.clone()], entry.digest);
    match manifest(archive, entry, &mut all)? {
        Some(manifest) => image(archive, entry, manifest),
        None => Err(all.error(&archive.name())),
    }
}

fn image(archive: &dyn Source, entry: &Descriptor, manifest: Manifest) -> Result<Found, Error> {
    let config = blob(archive, &manifest.config.digest, CONFIG_LIMIT)?;
    let layers = manifest
        .layers
        .iter()
        .map(|layer| FoundLayer::of(archive, export::blob(&layer.digest), Some(layer.digest)));
    let layers = layers.collect::<Result<_, Error>>()?;
    Ok(Found { names: names(entry), config, layers, annotations: manifest.annotations })
}

fn names(entry: &Descriptor) -> Names {
    let name = NAMES.iter().filter_map(|key| entry.annotations.get(*key)).find(|name| {
        // A bare word would become an image of Docker Hub, which it hardly is.
        name.contains(['/', ':'])
    });
    match name.map(|name| Reference::parse(name)) {
        Some(Ok(reference)) => match reference.version {
            Version::Digest(_) => Names { tags: Vec::new(), digests: vec![reference.to_string()] },
            Version::Tag(_) => Names::of(&reference, &entry.digest),
        },
        _ => Names::default(),
    }
}

/// The manifest behind an entry that runs here.
fn manifest(
    archive: &dyn Source,
    entry: &Descriptor,
    all: &mut Search,
) -> Result<Option<Manifest>, Error> {
    let mut search = Search::from(entry.clone());
    while let Some(way) = search.next() {
        match document_of(archive, &way.descriptor)? {
            Document::Index(entries) => search.go_on(&way, entries),
            Document::Image(manifest) => {
                let fits = way.is_for_us() || {
                    let config = blob(archive, &manifest.config.digest, CONFIG_LIMIT)?;
                    Config::parse(&config).is_ok_and(|config| all.fits(&config.platform))
                };
                if fits {
                    return Ok(Some(*manifest));
                }
            }
        }
    }
    Ok(None)
}

fn document_of(archive: &dyn Source, entry: &Descriptor) -> Result<Document, Error> {
    let bytes = blob(archive, &entry.digest, MANIFEST_LIMIT)?;
    Document::parse(&bytes, &entry.media_type).map_err(|reason| archive.wrong(&reason))
}

/// A small blob, which must have the digest that is its name.
fn blob(archive: &dyn Source, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
    let bytes = archive.read(&export::blob(digest), limit)?;
    let found = digest.same_of(&bytes);
    if found == *digest {
        return Ok(bytes);
    }
    let what = format!("blob {digest} of {}", archive.name());
    Err(Error::Corrupt { what, expected: *digest, found: Box::new(found) })
}
