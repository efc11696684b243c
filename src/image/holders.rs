//! Who holds layers besides the images: a container goes on with the layers of an image
//! that is removed under it. A holder is one small file; it survives the daemon, and needs
//! no wait for the disk on the way of a container's start. (After a power cut nothing runs
//! that would need it.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{Error, ImageId, layers::io_error};

const NAME_LENGTH: usize = 200;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) image: ImageId,
    /// The lowest layer first.
    pub(super) layers: Vec<u64>,
    /// Images that are mounted beside it, as volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) volumes: Vec<Held>,
}

impl Held {
    fn all(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(self).chain(&self.volumes)
    }
}

/// Who holds what, in memory.
#[derive(Default)]
pub(super) struct Holders {
    held: BTreeMap<String, Held>,
    are_known: bool,
}

impl Holders {
    /// Adds those that an earlier daemon has noted.
    pub(super) fn know(&mut self, earlier: Vec<(String, Held)>) {
        for (holder, held) in earlier {
            self.held.entry(holder).or_insert(held);
        }
        self.are_known = true;
    }

    /// Whether those of earlier daemons are among them; none may lose its layers before.
    pub(super) fn are_known(&self) -> bool {
        self.are_known
    }

    /// Notes a holder in memory; [`Files::write`] makes it last.
    pub(super) fn note(&mut self, holder: &str, held: Held) {
        self.held.insert(holder.to_owned(), held);
    }

    /// Takes back what [`Holders::note`] did.
    pub(super) fn forget(&mut self, holder: &str) {
        self.held.remove(holder);
    }

    pub(super) fn layers(&self) -> BTreeSet<u64> {
        let all = self.held.values().flat_map(Held::all);
        all.flat_map(|held| held.layers.iter().copied()).collect()
    }

    /// The layers of an image that somebody holds.
    pub(super) fn layers_of(&self, image: &ImageId) -> Option<&[u64]> {
        let mut all = self.held.values().flat_map(Held::all);
        all.find(|held| held.image == *image).map(|held| held.layers.as_slice())
    }

    pub(super) fn layers_held_by(&self, holder: &str) -> Option<&[u64]> {
        self.held.get(holder).map(|held| held.layers.as_slice())
    }

    /// Every holder, for the daemon to compare with the containers it knows.
    pub(super) fn names(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }
}

/// The files of the holders. Whoever waits for them has no lock that others need.
pub(super) struct Files {
    directory: PathBuf,
    // Changes are made one after the other.
    alone: Mutex<()>,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, alone: Mutex::new(()) }
    }

    /// All holders that are noted: a file for each container, so that a daemon that starts does
    /// without them at first.
    pub(super) fn read(&self) -> Result<Vec<(String, Held)>, Error> {
        let failed = io_error("list", &self.directory);
        let mut held = Vec::new();
        let _alone = self.alone();
        for entry in fs::read_dir(&self.directory).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_good(name));
            let content =
                fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            match (name, content) {
                (Some(name), Some(content)) => held.push((name.to_owned(), content)),
                // Half written when the machine stopped.
                _ => {
                    if let Err(error) = fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "it is left");
                    }
                }
            }
        }
        Ok(held)
    }

    pub(super) fn write(&self, holder: &str, held: &Held) -> Result<(), Error> {
        let path = self.path(holder)?;
        let new = self.directory.join(format!("{holder}~"));
        let content = serde_json::to_vec(held).map_err(std::io::Error::other);
        let _alone = self.alone();
        content
            .and_then(|content| fs::write(&new, content))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(io_error("write", &path))
    }

    /// One that is not there is no error.
    pub(super) fn remove(&self, holder: &str) -> Result<(), Error> {
        let path = self.path(holder)?;
        let _alone = self.alone();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, holder: &str) -> Result<PathBuf, Error> {
        if is_good(holder) {
            return Ok(self.directory.join(holder));
        }
        Err(Error::Reference {
            reference: holder.to_owned(),
            reason: "a holder is named with letters, digits, '_', '-' and '.'",
        })
    }
}

fn is_good(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !name.is_empty()
        && name.len() <= NAME_LENGTH
        && !name.starts_with('.')
        && name.bytes().all(good)
}
