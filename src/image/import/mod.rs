//! Import of images from what a node has: an archive (an OCI layout, or what `docker save`
//! writes), the directory of an OCI layout, or the root of a containerd that does not run. Names
//! in them are only looked up, never made into files.

mod archive;
mod bolt;
mod containerd;
mod directory;
mod docker;
mod layout;
mod plain;
mod source;

use std::path::{Path, PathBuf};

use super::{
    Digest, Error, Image, ImageId,
    config::Document as Config,
    images::{Names, Record},
    layers::Lease,
    manifest::CONFIG_LIMIT,
    records::{Complete, Records},
    stream::{ALWAYS_ALLOWED, Bounds, Expected, Stop, unpack_layer},
};
use archive::Archive;
use directory::Directory;
use source::Source;

/// The namespace of Kubernetes in a containerd.
pub const KUBERNETES: &str = "k8s.io";

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An archive of either kind, or a directory, as it turns out to be.
    Any(PathBuf),
    /// What `docker save` writes.
    DockerArchive(PathBuf),
    /// An OCI layout, in an archive or in a directory.
    Oci(PathBuf),
    /// The root of a containerd that does not run, and a namespace of it.
    Containerd {
        /// By default `/var/lib/containerd`.
        root: PathBuf,
        /// `k8s.io` are the images of Kubernetes.
        namespace: String,
    },
}

impl Origin {
    /// The archive or directory.
    pub fn path(&self) -> &Path {
        match self {
            Origin::Any(path) | Origin::DockerArchive(path) | Origin::Oci(path) => path,
            Origin::Containerd { root, .. } => root,
        }
    }
}

/// What has come of an import.
#[derive(Debug, Default)]
pub struct Imported {
    /// What is here now.
    pub images: Vec<Image>,
    /// Images of a containerd that are not whole, or not for this machine: the name and the
    /// reason.
    pub passed_over: Vec<(String, String)>,
}

/// An image within a source.
struct Found {
    names: Names,
    config: Vec<u8>,
    layers: Vec<FoundLayer>,
    annotations: std::collections::BTreeMap<String, String>,
}

/// A layer within a source, and the digest that its manifest gives.
struct FoundLayer {
    name: String,
    size: u64,
    compressed: Option<Digest>,
}

impl FoundLayer {
    /// The layer of that name, which must be there.
    fn of(source: &dyn Source, name: String, compressed: Option<Digest>) -> Result<Self, Error> {
        let size = source.size(&name)?;
        Ok(Self { name, size, compressed })
    }
}

/// Imports all images that are for this machine.
pub(super) fn import(records: &Records, origin: &Origin) -> Result<Imported, Error> {
    let path = origin.path();
    let kind = match origin {
        Origin::Containerd { namespace, .. } => Kind::Containerd(namespace),
        Origin::Any(_) if containerd::is_root(path) => Kind::Containerd(KUBERNETES),
        Origin::Any(_) => Kind::Any,
        Origin::DockerArchive(_) => Kind::Docker,
        Origin::Oci(_) => Kind::Layout,
    };
    if let Kind::Containerd(namespace) = kind {
        return containerd::import(records, path, namespace);
    }
    let temporary = records.options.root.join("tmp");
    let source: Box<dyn Source> = match path.is_dir() {
        true => Box::new(Directory::open(path)?),
        false => Box::new(Archive::open(path, &temporary, &bounds(records))?),
    };
    let source = &*source;
    let (is_docker, is_layout) = (source.has("manifest.json"), source.has("index.json"));
    let found = match kind {
        Kind::Any | Kind::Docker if is_docker => docker::images(source)?,
        Kind::Any | Kind::Layout if is_layout => layout::images(source)?,
        Kind::Docker => {
            return Err(source.wrong("it has no manifest.json, as docker save makes it"));
        }
        Kind::Layout => return Err(source.wrong("it has no index.json, as OCI tools make it")),
        _ => {
            return Err(source.wrong(
                "it has neither a manifest.json nor an index.json; make it with docker save or \
                 an OCI tool",
            ));
        }
    };
    let mut ids = Vec::with_capacity(found.len());
    for image in found {
        ids.push(take(records, source, image)?);
    }
    Ok(Imported { images: images(records, &ids), passed_over: Vec::new() })
}

enum Kind<'a> {
    Any,
    Docker,
    Layout,
    Containerd(&'a str),
}

/// Makes an image of what was found; of one that fails nothing stays.
fn take(records: &Records, source: &dyn Source, found: Found) -> Result<ImageId, Error> {
    let result = image_of(records, source, found);
    if result.is_err() {
        records.collect_garbage()?;
    }
    result
}

/// The images with these ids, each with all the names that it has by now.
fn images(records: &Records, ids: &[ImageId]) -> Vec<Image> {
    ids.iter().filter_map(|id| records.lock().images.get(id)).collect()
}

fn image_of(records: &Records, archive: &dyn Source, found: Found) -> Result<ImageId, Error> {
    let config = Config::parse(&found.config)
        .map_err(|error| archive.wrong(&format!("a configuration does not parse: {error}")))?;
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
    let size = found.layers.iter().map(|layer| layer.size).sum::<u64>() + found.config.len() as u64;
    let config = String::from_utf8(found.config)
        .map_err(|_| archive.wrong("a configuration is not UTF-8"))?;
    let record = Record { size, config, annotations: found.annotations, ..Record::default() };
    records.commit(Complete { id, names: found.names, record, leases })
}

/// The layer that is here, or a new one, settled upon those below it.
fn add_layer(
    records: &Records,
    archive: &dyn Source,
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
    let unpacked = unpack_layer(archive.reader(&layer.name)?, target, &expected, &bounds)?;
    let _lease = growing.finish(*diff_id, unpacked)?;
    records.settle(&below, diff_id)?.ok_or(Error::Task)
}

fn bounds(records: &Records) -> Bounds {
    let (windows, stop) = (records.windows.clone(), Stop::default());
    Bounds { windows, stop, always_allowed: ALWAYS_ALLOWED, worker: records.decompressor() }
}
