//! Layers that the disk has broken: found after a power cut and on request, and no longer
//! served, so that the next pull brings them again.
//!
//! An image is recorded after its layers have reached the disk, so that a power cut leaves
//! whole images or none. Disks and file systems do not always keep their promises; so after
//! a boot that no orderly end came before, every file is looked at before anything is
//! served, and all content is read and compared in the background.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{
    Error, Image,
    images::IMAGES,
    layers::Depth,
    records::{LAYERS, Records, alone},
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
fn begin(database: &Database, boot: &str) -> Result<bool, Error> {
    let last: Option<Boot> = database.get(STORE, BOOT)?;
    let is_suspicious = last
        .as_ref()
        .is_some_and(|last| last.is_suspicious || (last.id != boot && !last.ended_orderly));
    if last.is_none_or(|last| last.id != boot || last.ended_orderly) {
        let now = Boot { id: boot.to_owned(), ended_orderly: false, is_suspicious };
        // It is so whether or not the disk takes it: a daemon can begin on a full one.
        database.observe(Batch::of(STORE, BOOT, &now)?).later();
    }
    Ok(is_suspicious)
}

/// What is known of the disk's honesty, and how more is found out.
pub(super) struct Verifier {
    records: Arc<Records>,
    /// See [`Verifier::is_suspicious`].
    is_suspicious: AtomicBool,
}

impl Verifier {
    /// Looks at every file where the last boot ended without an orderly end.
    pub(super) fn begin(records: Arc<Records>) -> Result<Self, Error> {
        let is_suspicious = begin(&records.database, records.layers.boot())?;
        let verifier = Self { records, is_suspicious: AtomicBool::new(is_suspicious) };
        if is_suspicious && let Err(error) = verifier.verify_to(Depth::Sizes) {
            // The others are served; it stays suspicious.
            tracing::error!(error = %crate::kind::chain(&error), "not every layer can be looked at");
        }
        Ok(verifier)
    }

    /// Notes that the daemon ends orderly, after which no boot is suspicious.
    ///
    /// # Errors
    /// The database.
    pub(super) fn close(&self) -> Result<(), Error> {
        self.note_boot(true)
    }

    fn note_boot(&self, ended_orderly: bool) -> Result<(), Error> {
        let id = self.records.layers.boot().to_owned();
        let boot = Boot { id, ended_orderly, is_suspicious: self.is_suspicious() };
        Ok(self.records.database.put(STORE, BOOT, &boot)?)
    }

    /// Whether the machine went down without an orderly end, and [`Verifier::verify`] has not
    /// come to its end since.
    pub(super) fn is_suspicious(&self) -> bool {
        self.is_suspicious.load(Ordering::Relaxed)
    }

    /// Reads all layers and compares their content with their digests. Images that have a
    /// broken one are removed, and named in the answer; what containers use of them stays.
    /// Takes as long as reading all images from the disk. Blocks.
    ///
    /// # Errors
    /// A layer that cannot be read, and the database. All layers are tried, and the first
    /// failure is told.
    pub(super) fn verify(&self) -> Result<Vec<Image>, Error> {
        let removed = self.verify_to(Depth::Content)?;
        if self.is_suspicious.swap(false, Ordering::Relaxed) {
            self.note_boot(false)?;
        }
        Ok(removed)
    }

    fn verify_to(&self, depth: Depth) -> Result<Vec<Image>, Error> {
        let mut broken = BTreeSet::new();
        let mut result = Ok(());
        for lease in self.records.layers.all() {
            match self.records.layers.verify(lease.number, depth) {
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
        let _alone = alone(&self.records.changes);
        let mut batch = Batch::new();
        for (number, layer) in self.records.layers.mark_broken(broken) {
            batch.put(LAYERS, &number.to_string(), &layer)?;
        }
        self.records.know_holders()?;
        let images = self.records.lock().images.with_any_of(broken);
        for image in &images {
            batch.delete(IMAGES, &image.id.to_string());
        }
        self.records.database.commit(batch)?;
        let unneeded = {
            let mut state = self.records.lock();
            for image in &images {
                tracing::error!(image = %image.id, tags = ?image.repo_tags, "image is broken; pull it again");
                state.images.remove(&image.id);
            }
            self.records.take_unneeded(&state)
        };
        self.records.remove_layers(&unneeded)?;
        Ok(images)
    }
}
