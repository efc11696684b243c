//! The images that there are, and their names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Digest, Error, ImageId,
    config::{Document, ImageConfig},
    reference::{Reference, Version},
    rules::Rules,
    signature::Signature,
};
use crate::store::{Batch, Database};

/// The database's collection.
pub(super) const IMAGES: &str = "images";
/// Names by digest that are kept with an image; the oldest go.
const DIGESTS: usize = 256;
/// Annotations with more bytes together are not kept: nobody reads them, and everybody who asks
/// for the image would carry them.
const ANNOTATIONS: usize = 64 << 10;
/// Signatures that are kept with an image.
const SIGNATURES: usize = 64;
/// Fewer hex digits than this are a name and no id.
const SHORTEST_ID: usize = 4;

/// An image of the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its configuration.
    pub id: ImageId,
    /// Names such as `docker.io/library/busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Names such as `docker.io/library/busybox@sha256:...`.
    pub repo_digests: Vec<String>,
    /// What a pull transfers: compressed layers and configuration.
    pub size: u64,
    /// How its containers run.
    pub config: Arc<ImageConfig>,
    /// Garbage collection passes it over.
    pub pinned: bool,
    /// The annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// It has files and no root filesystem: it can be mounted, and not run.
    pub is_artifact: bool,
}

impl Image {
    /// Pinned as well when a rule says so.
    pub(super) fn by(self, rules: &Rules) -> Self {
        let names = self.repo_tags.iter().chain(&self.repo_digests);
        Self { pinned: self.pinned || rules.is_pinned(names), ..self }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
    pub(super) size: u64,
    /// Numbers of the layers, the lowest first, as the manifest lists them.
    pub(super) layers: Vec<u64>,
    /// The configuration document, whose digest is the id.
    pub(super) config: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) pinned: bool,
    pub(super) is_artifact: bool,
    /// The digests of its manifest and of the indexes that led to it.
    pub(super) manifests: Vec<Digest>,
    /// Those that the policy asked for when it was pulled.
    pub(super) signatures: Vec<Signature>,
}

impl Record {
    /// Without what a stranger has made too long.
    fn bounded(mut self) -> Self {
        let length: usize = self.annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if length > ANNOTATIONS {
            self.annotations.clear();
        }
        let excess = self.digests.len().saturating_sub(DIGESTS);
        self.digests.drain(..excess);
        self
    }

    /// Takes over what a later pull of the same image knows of its signatures.
    pub(super) fn with_what_is_signed(mut self, later: Self) -> Self {
        add(&mut self.manifests, &later.manifests);
        add(&mut self.signatures, &later.signatures);
        let excess = self.signatures.len().saturating_sub(SIGNATURES);
        self.signatures.drain(..excess);
        self
    }
}

/// A name that an image gets.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
}

impl Names {
    pub(super) fn of(reference: &Reference, digest: &Digest) -> Self {
        let tags = match reference.version {
            Version::Tag(_) => vec![reference.to_string()],
            Version::Digest(_) => Vec::new(),
        };
        Self { tags, digests: vec![reference.at(digest)] }
    }
}

struct Entry {
    record: Record,
    config: Arc<ImageConfig>,
}

/// All images by their ids.
#[derive(Default)]
pub(super) struct Images {
    entries: BTreeMap<ImageId, Entry>,
}

impl Images {
    /// Reads the database. An image whose record is damaged, or whose layers are not there,
    /// is left out, so that it can be pulled anew.
    pub(super) fn load(
        database: &Database,
        has_layer: impl Fn(u64) -> bool,
    ) -> Result<Self, Error> {
        let mut images = Self::default();
        for (key, record) in database.list::<Record>(IMAGES)? {
            let document = Document::parse(record.config.as_bytes());
            match (key.parse::<ImageId>(), document) {
                (Ok(id), Ok(document)) if record.layers.iter().all(|number| has_layer(*number)) => {
                    let config = Arc::new(document.into_config());
                    let record = record.bounded();
                    images.entries.insert(id, Entry { record, config });
                }
                _ => {
                    tracing::warn!(image = key, "image is damaged and is removed; pull it again");
                    database.delete(IMAGES, &key)?;
                }
            }
        }
        Ok(images)
    }

    pub(super) fn list(&self) -> Vec<Image> {
        self.entries.iter().map(|(id, entry)| entry.image(*id)).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, id: &ImageId) -> Option<Image> {
        self.entries.get(id).map(|entry| entry.image(*id))
    }

    pub(super) fn record(&self, id: &ImageId) -> Option<&Record> {
        self.entries.get(id).map(|entry| &entry.record)
    }

    /// The image of a reference, an id, or the beginning of just one id.
    pub(super) fn find(&self, name: &str) -> Option<ImageId> {
        if is_whole_id(name) {
            return self.with_id(name);
        }
        if let Ok(reference) = Reference::parse(name)
            && let Some(id) = self.named(&reference)
        {
            return Some(id);
        }
        let hex = hex_of(name);
        if hex.len() < SHORTEST_ID {
            return None;
        }
        let mut matching = self.entries.keys().filter(|id| id.0.hex().starts_with(hex));
        matching.next().filter(|_| matching.next().is_none()).copied()
    }

    /// The image of a whole id.
    pub(super) fn with_id(&self, id: &str) -> Option<ImageId> {
        let digest = id.parse().or_else(|_| Digest::from_hex(id)).ok()?;
        Some(ImageId(digest)).filter(|id| self.entries.contains_key(id))
    }

    fn named(&self, reference: &Reference) -> Option<ImageId> {
        let name = reference.to_string();
        let has_name = |record: &Record| match reference.version {
            Version::Tag(_) => record.tags.contains(&name),
            Version::Digest(_) => record.digests.contains(&name),
        };
        self.entries.iter().find(|(_, entry)| has_name(&entry.record)).map(|(id, _)| *id)
    }

    /// The images that have at least one of the layers.
    pub(super) fn with_any_of(&self, layers: &BTreeSet<u64>) -> Vec<Image> {
        let mut images = self.list();
        images.retain(|image| {
            let record = self.record(&image.id);
            record.is_some_and(|record| record.layers.iter().any(|n| layers.contains(n)))
        });
        images
    }

    /// Numbers of all layers of all images.
    pub(super) fn layers(&self) -> BTreeSet<u64> {
        self.entries.values().flat_map(|entry| entry.record.layers.iter().copied()).collect()
    }

    /// Prepares what an image and its names change, for one batch: the image gets the
    /// names, and those that had its tags lose them.
    pub(super) fn with_names(
        &self,
        id: ImageId,
        mut record: Record,
        names: &Names,
    ) -> Vec<(ImageId, Record)> {
        let mut changed = Vec::new();
        for (other, entry) in self.entries.iter().filter(|(other, _)| **other != id) {
            if entry.record.tags.iter().any(|tag| names.tags.contains(tag)) {
                let mut record = entry.record.clone();
                record.tags.retain(|tag| !names.tags.contains(tag));
                changed.push((*other, record));
            }
        }
        add(&mut record.tags, &names.tags);
        add(&mut record.digests, &names.digests);
        changed.push((id, record.bounded()));
        changed
    }

    /// Takes over what is in the database by now.
    pub(super) fn put(&mut self, id: ImageId, record: Record) -> Result<(), serde_json::Error> {
        let config = match self.entries.get(&id) {
            Some(entry) => entry.config.clone(),
            None => Arc::new(Document::parse(record.config.as_bytes())?.into_config()),
        };
        self.entries.insert(id, Entry { record, config });
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &ImageId) {
        self.entries.remove(id);
    }
}

impl Entry {
    fn image(&self, id: ImageId) -> Image {
        let record = &self.record;
        Image {
            id,
            repo_tags: record.tags.clone(),
            repo_digests: record.digests.clone(),
            size: record.size,
            config: self.config.clone(),
            pinned: record.pinned,
            annotations: record.annotations.clone(),
            is_artifact: record.is_artifact,
        }
    }
}

/// Whether a name is the image's id, or the beginning of it.
pub(super) fn is_id_of(id: &ImageId, name: &str) -> bool {
    let hex = hex_of(name);
    hex.len() >= SHORTEST_ID && id.0.hex().starts_with(hex)
}

fn is_whole_id(name: &str) -> bool {
    name.parse::<Digest>().is_ok() || Digest::from_hex(name).is_ok()
}

/// The hex digits of an id, which may be cut short.
fn hex_of(name: &str) -> &str {
    let algorithms = ["sha256:", "sha512:"];
    algorithms.iter().find_map(|algorithm| name.strip_prefix(algorithm)).unwrap_or(name)
}

fn add<T: Clone + PartialEq>(names: &mut Vec<T>, new: &[T]) {
    for name in new {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

/// Adds records of images to a batch.
pub(super) fn put_all(batch: &mut Batch, changed: &[(ImageId, Record)]) -> Result<(), Error> {
    for (id, record) in changed {
        batch.put(IMAGES, &id.to_string(), record)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> (Images, ImageId, ImageId) {
        let mut images = Images::default();
        let ids = [r#"{"os":"linux"}"#, r#"{"os":"other"}"#].map(|config| {
            let id = ImageId(Digest::of(config.as_bytes()));
            let record = Record { config: config.to_owned(), ..Record::default() };
            images.put(id, record).unwrap();
            id
        });
        (images, ids[0], ids[1])
    }

    fn name(images: &mut Images, id: ImageId, names: &Names) {
        let record = images.record(&id).unwrap().clone();
        for (id, record) in images.with_names(id, record, names) {
            images.put(id, record).unwrap();
        }
    }

    #[test]
    fn every_form_of_name_finds_the_image() {
        let (mut images, id, other) = images();
        let digest = Digest::of(b"manifest");
        name(&mut images, id, &Names::of(&Reference::parse("busybox:1").unwrap(), &digest));
        let hex = id.0.hex();
        for known in [
            "busybox:1",
            "docker.io/library/busybox:1",
            "index.docker.io/busybox:1",
            &format!("busybox@{digest}"),
            &format!("busybox:whatever@{digest}"),
            &id.to_string(),
            &hex,
            &hex[..12],
            &format!("sha256:{}", &hex[..12]),
        ] {
            assert_eq!(images.find(known), Some(id), "{known}");
        }
        for unknown in
            ["busybox", "quay.io/busybox:1", "", &hex[..3], &Digest::of(b"x").to_string()]
        {
            assert_eq!(images.find(unknown), None, "{unknown}");
        }
        assert_eq!(images.find(&other.0.hex()[..20]), Some(other));
    }

    #[test]
    fn what_strangers_write_at_length_is_not_kept() {
        let (mut images, id, _) = images();
        let reference = Reference::parse("a.io/b:c").unwrap();
        let with = |length: usize| BTreeMap::from([("a".to_owned(), "x".repeat(length))]);
        for (length, kept) in [(1000, 1), (70_000, 0)] {
            let record =
                Record { annotations: with(length), ..images.record(&id).unwrap().clone() };
            let names = Names::of(&reference, &Digest::of(b"1"));
            let (_, record) = images.with_names(id, record, &names).pop().unwrap();
            assert_eq!(record.annotations.len(), kept);
        }
        for number in 0..300 {
            let digest = Digest::of(format!("{number}").as_bytes());
            name(&mut images, id, &Names::of(&reference, &digest));
        }
        let digests = &images.record(&id).unwrap().digests;
        assert_eq!(digests.len(), DIGESTS);
        assert!(digests.contains(&format!("a.io/b@{}", Digest::of(b"299"))));
    }

    #[test]
    fn a_tag_moves_and_the_digest_stays() {
        let (mut images, first, second) = images();
        let reference = Reference::parse("a.io/b:c").unwrap();
        name(&mut images, first, &Names::of(&reference, &Digest::of(b"1")));
        name(&mut images, second, &Names::of(&reference, &Digest::of(b"2")));
        assert_eq!(images.find("a.io/b:c"), Some(second));
        let old = images.get(&first).unwrap();
        assert!(old.repo_tags.is_empty());
        assert_eq!(old.repo_digests, [format!("a.io/b@{}", Digest::of(b"1"))]);
    }
}
