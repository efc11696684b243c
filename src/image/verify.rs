//! Layers that the disk has broken: found after a power cut and on request, and no longer
//! served, so that the next pull brings them again.
//!
//! An image is recorded after its layers have reached the disk, so that a power cut leaves
//! whole images or none. Disks and file systems do not always keep their promises; so after
//! a boot that no orderly end came before, every file is looked at before anything is
//! served, and all content is read and compared in the background.

use std::{collections::BTreeSet, io::Write};

use serde::{Deserialize, Serialize};

use super::{
    Error, Image, ImageId, ImageStore,
    images::IMAGES,
    layers::{Depth, Lease},
    store::{LAYERS, absent, alone},
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
}

/// Notes that a daemon runs in this boot. Whether the machine went down before without an
/// orderly end.
pub(super) fn begin(database: &Database, boot: &str) -> Result<bool, Error> {
    let last: Option<Boot> = database.get(STORE, BOOT)?;
    let after_crash = last.as_ref().is_some_and(|last| last.id != boot && !last.ended_orderly);
    if last.is_none_or(|last| last.id != boot || last.ended_orderly) {
        database.put(STORE, BOOT, &Boot { id: boot.to_owned(), ended_orderly: false })?;
    }
    Ok(after_crash)
}

impl ImageStore {
    /// Notes that the daemon ends orderly, after which no boot is suspicious.
    ///
    /// # Errors
    /// The database.
    pub fn close(&self) -> Result<(), Error> {
        let id = self.layers.boot().to_owned();
        Ok(self.database().put(STORE, BOOT, &Boot { id, ended_orderly: true })?)
    }

    /// Whether the machine went down without an orderly end before this daemon, so that
    /// [`ImageStore::verify`] is called for.
    pub fn is_suspicious(&self) -> bool {
        self.after_crash
    }

    /// Reads all layers and compares their content with their digests. Images that have a
    /// broken one are removed, and named in the answer; what containers use of them stays.
    /// Takes as long as reading all images from the disk. Blocks.
    ///
    /// # Errors
    /// A layer that cannot be read, and the database. All layers are tried, and the first
    /// failure is told.
    pub fn verify(&self) -> Result<Vec<Image>, Error> {
        self.verify_to(Depth::Content)
    }

    /// Writes the archive of one of an image's layers, counted from the lowest, as it was
    /// before it was compressed. Blocks.
    ///
    /// # Errors
    /// An image or layer that is not here, one that cannot be made again, and one that is not
    /// what it was, which shows at the end.
    pub fn write_layer(
        &self,
        id: &ImageId,
        index: usize,
        sink: &mut dyn Write,
    ) -> Result<(), Error> {
        let number =
            self.lock().images.record(id).and_then(|record| record.layers.get(index).copied());
        let lease = number.and_then(|number| self.layers.lease(number));
        let lease = lease.ok_or_else(|| absent(id))?;
        self.layers.rebuild(lease.number, sink)
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

impl super::layers::Layers {
    /// Leases of all layers that are in service.
    fn all(self: &std::sync::Arc<Self>) -> Vec<Lease> {
        self.numbers().into_iter().filter_map(|number| self.lease(number)).collect()
    }
}
