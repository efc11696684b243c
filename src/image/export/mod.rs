//! Images as one archive, which is an OCI layout and an archive of `docker save` at once.
//!
//! Compressed layers are not kept, so that each layer is its uncompressed archive, made again
//! byte for byte. The configuration stays as it is, and with it the image's id; the manifest
//! is a new one, since it names uncompressed layers.

mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use serde_json::{Value, json};

use super::{
    Digest, Error, ImageId,
    images::Record,
    layers::Lease,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    records::Records,
};
use writer::Writer;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// By which containerd and others know an image's whole name.
const IMAGE_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image that is written, with its layers held.
struct Exported {
    id: ImageId,
    record: Record,
    layers: Vec<Layer>,
}

struct Layer {
    diff_id: Digest,
    /// Of its archive.
    size: u64,
    lease: Lease,
}

/// Writes the named images to `sink`. What is written before an error is of no use.
pub(super) fn export(
    records: &Records,
    names: &[String],
    sink: &mut dyn Write,
) -> Result<(), Error> {
    let mut images = BTreeMap::new();
    for name in names {
        let exported = lease(records, name)?;
        images.insert(exported.id, exported);
    }
    let images: Vec<Exported> = images.into_values().collect();
    let manifests: Vec<String> = images.iter().map(|image| manifest(image).to_string()).collect();
    let mut writer = Writer::new(sink);
    write_blobs(records, &images, &manifests, &mut writer)?;
    let documents = [
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ("index.json", index(&images, &manifests)),
        ("manifest.json", images.iter().map(docker_entry).collect()),
    ];
    for (name, document) in documents {
        writer.file(name, document.to_string().as_bytes()).map_err(sink_failed)?;
    }
    writer.finish().map_err(sink_failed)
}

fn lease(records: &Records, name: &str) -> Result<Exported, Error> {
    let absent = || Error::Absent { name: name.to_owned() };
    let state = records.lock();
    let id = state.images.find(name).ok_or_else(absent)?;
    let record = state.images.record(&id).cloned().ok_or_else(absent)?;
    let leases = record.layers.iter().map(|number| records.layers.lease(*number));
    let leases = leases.collect::<Option<Vec<Lease>>>().ok_or_else(absent)?;
    drop(state);
    let layers = leases.into_iter().map(|lease| {
        let size = records.layers.archive_size(lease.number)?;
        let layer = records.layers.get(lease.number).ok_or_else(absent)?;
        Ok(Layer { diff_id: layer.diff_id, size, lease })
    });
    let layers = layers.collect::<Result<Vec<Layer>, Error>>()?;
    Ok(Exported { id, record, layers })
}

fn write_blobs(
    records: &Records,
    images: &[Exported],
    manifests: &[String],
    writer: &mut Writer<'_>,
) -> Result<(), Error> {
    let mut written = BTreeSet::new();
    for (image, manifest) in images.iter().zip(manifests) {
        for layer in image.layers.iter().filter(|layer| written.insert(layer.diff_id)) {
            let sink = writer.begin(&blob(&layer.diff_id), layer.size).map_err(sink_failed)?;
            records.layers.rebuild(layer.lease.number, sink)?;
            writer.pad(layer.size).map_err(sink_failed)?;
        }
        let config = image.record.config.as_bytes();
        let digest = Digest::of(manifest.as_bytes());
        writer
            .file(&blob(&image.id.0), config)
            .and_then(|()| writer.file(&blob(&digest), manifest.as_bytes()))
            .map_err(sink_failed)?;
    }
    Ok(())
}

fn manifest(image: &Exported) -> Value {
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| json!({ "mediaType": LAYER, "digest": layer.diff_id, "size": layer.size }))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": CONFIG, "digest": image.id, "size": image.record.config.len() },
        "layers": layers,
        "annotations": image.record.annotations,
    })
}

/// One entry for each tag, or one without a name.
fn index(images: &[Exported], manifests: &[String]) -> Value {
    let mut entries = Vec::new();
    for (image, manifest) in images.iter().zip(manifests) {
        let descriptor = json!({
            "mediaType": OCI_MANIFEST,
            "digest": Digest::of(manifest.as_bytes()),
            "size": manifest.len(),
        });
        for tag in &image.record.tags {
            let mut entry = descriptor.clone();
            entry["annotations"] = json!({ IMAGE_NAME: tag, REF_NAME: tag });
            entries.push(entry);
        }
        if image.record.tags.is_empty() {
            entries.push(descriptor);
        }
    }
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries })
}

fn docker_entry(image: &Exported) -> Value {
    let layers: Vec<String> = image.layers.iter().map(|layer| blob(&layer.diff_id)).collect();
    json!({ "Config": blob(&image.id.0), "RepoTags": image.record.tags, "Layers": layers })
}

/// Where an OCI layout has its content.
pub(super) fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn sink_failed(source: std::io::Error) -> Error {
    Error::Sink { source }
}
