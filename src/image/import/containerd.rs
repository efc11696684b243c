//! The images of a containerd that does not run: names from its database, content from its
//! store, which has blobs where an OCI layout has them.

use std::{fs::File, path::Path};

use rustix::fs::{FlockOperation, flock};

use super::{
    Imported, Records,
    bolt::{Bolt, Bucket, Value},
    directory::Directory,
    images, layout,
    source::Source,
    take,
};
use crate::{
    image::{Digest, Error, layers::io_error, manifest::Descriptor, reference::Reference},
    kind::{Kind, chain},
};

const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";
const CONTENT: &str = "io.containerd.content.v1.content";
/// The first level of the database.
const VERSION: &[u8] = b"v1";
/// By which the layout knows an image's name.
const NAME: &str = "io.containerd.image.name";

/// Whether a directory is the root of a containerd.
pub(super) fn is_root(path: &Path) -> bool {
    path.join(DATABASE).is_file()
}

/// Imports all images of a namespace whose content is whole. The others are named.
pub(super) fn import(records: &Records, root: &Path, namespace: &str) -> Result<Imported, Error> {
    let database = Database::open(root)?;
    let content = Directory::open(&root.join(CONTENT))?;
    let (mut ids, mut passed_over) = (Vec::new(), Vec::new());
    for (name, target) in database.images(namespace)? {
        // The kubelet's other names for one that has a name.
        if Digest::try_from(name.clone()).is_ok() {
            continue;
        }
        let taken = entry(&name, target)
            .map_err(|reason| content.wrong(&reason))
            .and_then(|entry| layout::image_at(&content, &entry))
            .and_then(|found| take(records, &content, found));
        match taken {
            Ok(id) => ids.push(id),
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => passed_over.push((name, chain(&error))),
        }
    }
    // One image may have several names.
    ids.sort_unstable();
    ids.dedup();
    Ok(Imported { images: images(records, &ids), passed_over })
}

/// What is wrong here, and with every other image as well.
fn is_fatal(error: &Error) -> bool {
    error.kind() == Kind::ResourceExhausted && !matches!(error, Error::Limit { .. })
}

fn entry(name: &str, target: Target) -> Result<Descriptor, String> {
    let digest = target.digest.ok_or("its database names no digest")?;
    let digest = Digest::try_from(digest).map_err(|_| "its database has a digest that is none")?;
    Reference::parse(name).map_err(|error| error.to_string())?;
    let annotations = [(NAME.to_owned(), name.to_owned())].into();
    let media_type = target.media_type.unwrap_or_default();
    Ok(Descriptor { media_type, digest, size: 0, platform: None, annotations })
}

/// What an image's name leads to.
#[derive(Default)]
struct Target {
    digest: Option<String>,
    media_type: Option<String>,
}

struct Database<'a> {
    root: &'a Path,
    bolt: Bolt,
}

impl<'a> Database<'a> {
    /// Opens the database, and keeps containerd away from it meanwhile.
    fn open(root: &'a Path) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Archive { path: root.to_owned(), reason };
        let path = root.join(DATABASE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(wrong(format!(
                    "it has no {DATABASE}; name the root of a containerd, as a rule \
                     /var/lib/containerd"
                )));
            }
            other => other.map_err(io_error("open", &path))?,
        };
        if flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
            return Err(wrong("containerd uses it; stop containerd first".to_owned()));
        }
        let bolt = Bolt::open(file).map_err(|reason| wrong(format!("{DATABASE}: {reason}")))?;
        Ok(Self { root, bolt })
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::Archive { path: self.root.to_owned(), reason: format!("{DATABASE}: {reason}") }
    }

    /// The names of all images, with what they lead to.
    fn images(&self, namespace: &str) -> Result<Vec<(String, Target)>, Error> {
        let way = [VERSION, namespace.as_bytes(), b"images"];
        let wrong = |reason: String| self.wrong(&reason);
        let Some(images) = self.bolt.bucket(&way).map_err(wrong)? else {
            return Err(self.wrong(&self.absent(namespace).map_err(wrong)?));
        };
        let mut found = Vec::new();
        for (name, value) in self.bolt.entries(&images).map_err(wrong)? {
            if let Value::Bucket(image) = value {
                let name = String::from_utf8_lossy(&name).into_owned();
                found.push((name, self.target(&image).map_err(wrong)?));
            }
        }
        Ok(found)
    }

    fn target(&self, image: &Bucket) -> Result<Target, String> {
        let mut target = Target::default();
        for (key, value) in self.bolt.entries(image)? {
            let Value::Bucket(inner) = value else { continue };
            if key != b"target" {
                continue;
            }
            for (key, value) in self.bolt.entries(&inner)? {
                let Value::Bytes(value) = value else { continue };
                let value = String::from_utf8_lossy(&value).into_owned();
                match &key[..] {
                    b"digest" => target.digest = Some(value),
                    b"mediatype" => target.media_type = Some(value),
                    _ => {}
                }
            }
        }
        Ok(target)
    }

    /// Which namespaces there are instead.
    fn absent(&self, namespace: &str) -> Result<String, String> {
        let mut names = Vec::new();
        if let Some(all) = self.bolt.bucket(&[VERSION])? {
            for (name, value) in self.bolt.entries(&all)? {
                if let Value::Bucket(_) = value {
                    names.push(String::from_utf8_lossy(&name).into_owned());
                }
            }
        }
        Ok(match names.is_empty() {
            true => "it has no namespaces, and no images".to_owned(),
            false => {
                format!("namespace {namespace} has no images; there is {}", names.join(", "))
            }
        })
    }
}
