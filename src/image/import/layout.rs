//! `index.json` and `blobs/`, the OCI image layout.

use super::{Archive, CONFIG_LIMIT, Digest, Error, Found, FoundLayer, Names};
use crate::image::{
    export,
    manifest::{Descriptor, Document, MANIFEST_LIMIT, Manifest, choose},
    platform::Platform,
    reference::{Reference, Version},
};

const DEPTH: usize = 3;
/// The full name comes first: the other one is often a mere tag, which names no image.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

pub(super) fn images(archive: &Archive) -> Result<Vec<Found>, Error> {
    let bytes = archive.read("index.json", MANIFEST_LIMIT)?;
    let document = Document::parse(&bytes, "").map_err(|reason| archive.wrong(reason))?;
    let Document::Index(entries) = document else {
        return Err(archive.wrong("its index.json is not an index"));
    };
    let here = Platform::here();
    let for_us =
        |entry: &&Descriptor| entry.platform.as_ref().is_none_or(|p| here.rank(p).is_some());
    let found: Vec<Found> = entries
        .iter()
        .filter(for_us)
        .map(|entry| image(archive, entry))
        .collect::<Result<_, _>>()?;
    if found.is_empty() {
        choose(&entries, &here).map_err(|offered| Error::Platform {
            reference: archive.name(),
            wanted: here.describe(),
            offered,
        })?;
    }
    Ok(found)
}

fn image(archive: &Archive, entry: &Descriptor) -> Result<Found, Error> {
    let manifest = manifest(archive, entry)?;
    let config = blob(archive, &manifest.config.digest, CONFIG_LIMIT)?;
    let layers = manifest.layers.iter().map(|layer| {
        let member = archive.member(&export::blob(&layer.digest))?;
        Ok(FoundLayer { member, compressed: Some(layer.digest) })
    });
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

fn manifest(archive: &Archive, entry: &Descriptor) -> Result<Manifest, Error> {
    let here = Platform::here();
    let mut entry = entry.clone();
    for _ in 0..=DEPTH {
        let bytes = blob(archive, &entry.digest, MANIFEST_LIMIT)?;
        let document =
            Document::parse(&bytes, &entry.media_type).map_err(|reason| archive.wrong(reason))?;
        match document {
            Document::Image(manifest) => return Ok(*manifest),
            Document::Index(entries) => {
                let chosen = choose(&entries, &here).map_err(|offered| Error::Platform {
                    reference: archive.name(),
                    wanted: here.describe(),
                    offered,
                })?;
                entry = chosen.clone();
            }
        }
    }
    Err(archive.wrong("its index lists indexes of indexes"))
}

/// A small blob, which must have the digest that is its name.
fn blob(archive: &Archive, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
    let bytes = archive.read(&export::blob(digest), limit)?;
    let found = digest.same_of(&bytes);
    if found == *digest {
        return Ok(bytes);
    }
    let what = format!("blob {digest} of {}", archive.name());
    Err(Error::Corrupt { what, expected: *digest, found: Box::new(found) })
}
