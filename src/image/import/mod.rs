//! Import of images from one archive: an OCI layout, or what `docker save` writes. The
//! archive's own names are only looked up, never made into files.

mod archive;
mod docker;
mod layout;
mod plain;

use std::path::Path;

use super::{
    Digest, Error, Image, ImageId,
    config::Document as Config,
    images::{Names, Record},
    layers::Lease,
    manifest::CONFIG_LIMIT,
    records::{Complete, Records},
    stream::{ALWAYS_ALLOWED, Bounds, Expected, Stop, unpack_layer},
};
use archive::{Archive, Member};

/// An image within an archive.
struct Found {
    names: Names,
    config: Vec<u8>,
    layers: Vec<FoundLayer>,
    annotations: std::collections::BTreeMap<String, String>,
}

/// A layer within an archive, and the digest that its manifest gives.
struct FoundLayer {
    member: Member,
    compressed: Option<Digest>,
}

/// Imports all images of the archive that are for this machine.
pub(super) fn import(records: &Records, path: &Path) -> Result<Vec<Image>, Error> {
    let bounds = bounds(records);
    let archive = Archive::open(path, &records.options.root.join("tmp"), &bounds)?;
    let found = if archive.find("manifest.json").is_some() {
        docker::images(&archive)?
    } else if archive.find("index.json").is_some() {
        layout::images(&archive)?
    } else {
        return Err(archive.wrong(
            "it has neither a manifest.json nor an index.json; make it with \
                                  docker save or an OCI tool",
        ));
    };
    let mut images = Vec::with_capacity(found.len());
    for image in found {
        let result = image_of(records, &archive, image);
        if result.is_err() {
            records.collect_garbage()?;
        }
        let id = result?;
        images.extend(records.lock().images.get(&id));
    }
    Ok(images)
}

fn image_of(records: &Records, archive: &Archive, found: Found) -> Result<ImageId, Error> {
    let config = Config::parse(&found.config)
        .map_err(|error| archive.wrong(format!("a configuration does not parse: {error}")))?;
    config.platform.warn_if_other(&archive.name());
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != found.layers.len() {
        return Err(
            archive.wrong("a manifest and its configuration have different numbers of layers")
        );
    }
    let mut leases: Vec<Lease> = Vec::with_capacity(diff_ids.len());
    for (layer, diff_id) in found.layers.iter().zip(diff_ids) {
        match add_layer(records, archive, layer, diff_id, &leases) {
            Ok(lease) => leases.push(lease),
            Err(error) => {
                records.layers.forget(diff_ids);
                return Err(error);
            }
        }
    }
    let id = ImageId(Digest::of(&found.config));
    let size =
        found.layers.iter().map(|layer| layer.member.size).sum::<u64>() + found.config.len() as u64;
    let config = String::from_utf8(found.config)
        .map_err(|_| archive.wrong("a configuration is not UTF-8"))?;
    let record = Record { size, config, annotations: found.annotations, ..Record::default() };
    records.commit(Complete { id, names: found.names, record, leases })
}

/// The layer that is here, or a new one, settled upon those below it.
fn add_layer(
    records: &Records,
    archive: &Archive,
    layer: &FoundLayer,
    diff_id: &Digest,
    below: &[Lease],
) -> Result<Lease, Error> {
    let below: Vec<u64> = below.iter().map(|lease| lease.number).collect();
    if let Some(lease) = records.settle(&below, diff_id)? {
        return Ok(lease);
    }
    let (growing, target) = records.layers.begin()?;
    let expected = Expected { compressed: layer.compressed, diff_id: *diff_id };
    let bounds = bounds(records);
    let unpacked = unpack_layer(archive.reader(&layer.member), target, &expected, &bounds)?;
    let _lease = growing.finish(*diff_id, unpacked)?;
    records.settle(&below, diff_id)?.ok_or(Error::Task)
}

fn bounds(records: &Records) -> Bounds {
    let (windows, stop) = (records.windows.clone(), Stop::default());
    Bounds { windows, stop, always_allowed: ALWAYS_ALLOWED, worker: records.decompressor() }
}
