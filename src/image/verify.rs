//! Layers that the disk has broken: found after a power cut and on request, and no longer
//! served, so that the next pull brings them again.
//!
//! An image is recorded after its layers have reached the disk, so that a power cut leaves
//! whole images or none. Disks and file systems do not always keep their promises; so after
//! a boot that no orderly end came before, every file is looked at before anything is
//! served, and all content is read and compared in the background.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use serde::{Deserialize, Serialize};

use super::{
    Error, Image, ImageStore,
    images::IMAGES,
    layers::Depth,
    store::{LAYERS, alone},
};
use crate::store::{Batch, Database};

/// The database's collection of what is true of the store as a whole.
const STORE: &str = "image_store";
const BOOT: &str = "boot";

/// Whether the last daemon had the time to say that it ends.
#[derive(Debug, Serialize, Deserialize)]
struct Boot {
    id: String,
    ended_orderly: bool,
    /// Contents were not compared to the end since the last time that it did not.
    #[serde(default)]
    is_suspicious: bool,
}

/// Notes that a daemon runs in this boot. Whether the machine went down before without an
/// orderly end, and nobody has compared all contents since.
pub(super) fn begin(database: &Database, boot: &str) -> Result<bool, Error> {
    let last: Option<Boot> = database.get(STORE, BOOT)?;
    let is_suspicious = last
        .as_ref()
        .is_some_and(|last| last.is_suspicious || (last.id != boot && !last.ended_orderly));
    if last.is_none_or(|last| last.id != boot || last.ended_orderly) {
        let now = Boot { id: boot.to_owned(), ended_orderly: false, is_suspicious };
        database.put(STORE, BOOT, &now)?;
    }
    Ok(is_suspicious)
}

impl ImageStore {
    /// Notes that the daemon ends orderly, after which no boot is suspicious.
    ///
    /// # Errors
    /// The database.
    pub fn close(&self) -> Result<(), Error> {
        self.note_boot(true)
    }

    fn note_boot(&self, ended_orderly: bool) -> Result<(), Error> {
        let id = self.layers.boot().to_owned();
        let boot = Boot { id, ended_orderly, is_suspicious: self.is_suspicious() };
        Ok(self.database().put(STORE, BOOT, &boot)?)
    }

    /// Whether the machine went down without an orderly end, and [`ImageStore::verify`] has not
    /// come to its end since.
    pub fn is_suspicious(&self) -> bool {
        self.is_suspicious.load(Ordering::Relaxed)
    }

    /// Reads all layers and compares their content with their digests. Images that have a
    /// broken one are removed, and named in the answer; what containers use of them stays.
    /// Takes as long as reading all images from the disk. Blocks.
    ///
    /// # Errors
    /// A layer that cannot be read, and the database. All layers are tried, and the first
    /// failure is told.
    pub fn verify(&self) -> Result<Vec<Image>, Error> {
        let removed = self.verify_to(Depth::Content)?;
        if self.is_suspicious.swap(false, Ordering::Relaxed) {
            self.note_boot(false)?;
        }
        Ok(removed)
    }

    pub(super) fn verify_to(&self, depth: Depth) -> Result<Vec<Image>, Error> {
        let mut broken = BTreeSet::new();
        let mut result = Ok(());
        for lease in self.layers.all() {
            match self.layers.verify(lease.number, depth) {
                Ok(()) => {}
                Err(error @ Error::Broken { .. }) => {
                    tracing::error!(layer = lease.number, %error, "layer is broken");
                    broken.insert(lease.number);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        if broken.is_empty() {
            return result.map(|()| Vec::new());
        }
        let removed = self.remove_broken(&broken);
        result.and(removed)
    }

    /// Takes broken layers out of service, with the images that have them.
    fn remove_broken(&self, broken: &BTreeSet<u64>) -> Result<Vec<Image>, Error> {
        let _alone = alone(&self.changes);
        let mut batch = Batch::new();
        for (number, layer) in self.layers.mark_broken(broken) {
            batch.put(LAYERS, &number.to_string(), &layer)?;
        }
        let images = self.lock().images.with_any_of(broken);
        for image in &images {
            batch.delete(IMAGES, &image.id.to_string());
        }
        self.database().commit(batch)?;
        let unneeded = {
            let mut state = self.lock();
            for image in &images {
                tracing::error!(image = %image.id, tags = ?image.repo_tags, "image is broken; pull it again");
                state.images.remove(&image.id);
            }
            self.take_unneeded(&state)
        };
        self.remove_layers(&unneeded)?;
        Ok(images)
    }
}
