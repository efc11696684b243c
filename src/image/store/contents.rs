//! What there is, and what containers get of it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::ImageStore;
use crate::image::{Error, Image, ImageId, RootOwner, Users};

impl ImageStore {
    /// All images, in the order of their ids.
    pub fn list(&self) -> Vec<Image> {
        self.records.list()
    }

    /// The image of a reference, of an id with or without `sha256:`, or of the beginning of
    /// an id that no other image shares.
    pub fn find(&self, name: &str) -> Option<Image> {
        self.records.find(name)
    }

    /// Removes an image with all its names; one that is not there is no error. Its layers
    /// go at once, except those that another image has or somebody holds. Blocks.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.records.remove(name)
    }

    /// Marks an image as one that garbage collection passes over, or not. Blocks.
    pub fn set_pinned(&self, id: &ImageId, pinned: bool) -> Result<(), Error> {
        self.records.set_pinned(id, pinned)
    }

    /// Removes layers that nobody needs and that no pull has come back for. Blocks.
    pub fn collect_garbage(&self) -> Result<(), Error> {
        self.records.collect_garbage()
    }

    /// Removes what broken pulls have left once their time is over; a store that is closed
    /// until then has nothing to do.
    pub fn collect_later(&self) {
        self.records.collect_later();
    }

    /// Keeps the layers of an image for `holder`, also beyond the image's removal and the
    /// daemon's end, until they are released. Gives them as [`ImageStore::layers`] does. Blocks.
    pub fn hold(&self, id: &ImageId, holder: &str) -> Result<Vec<PathBuf>, Error> {
        self.records.hold(id, holder)
    }

    /// The same, with images that are mounted beside it: their layers come in their order.
    pub fn hold_with_volumes(
        &self,
        id: &ImageId,
        volumes: &[ImageId],
        holder: &str,
    ) -> Result<(Vec<PathBuf>, Vec<Vec<PathBuf>>), Error> {
        self.records.hold_with_volumes(id, volumes, holder)
    }

    /// What a holder holds, as [`ImageStore::hold`] gave it; the image may have been removed
    /// and pulled into other directories since.
    pub fn held_layers(&self, holder: &str) -> Option<Vec<PathBuf>> {
        self.records.held_layers(holder)
    }

    /// The numbers of all layers that are in service or being unpacked; their directories are
    /// called so.
    pub fn layer_numbers(&self) -> BTreeSet<u64> {
        self.records.layers.numbers()
    }

    /// Ends a hold; one that is not there is no error. Blocks.
    pub fn release(&self, holder: &str) -> Result<(), Error> {
        self.records.release(holder)
    }

    /// Everyone who holds layers. Blocks.
    pub fn holders(&self) -> Result<Vec<String>, Error> {
        self.records.holders()
    }

    /// The directories of an image's layers, the top one first, none of them twice.
    pub fn layers(&self, id: &ImageId) -> Result<Vec<PathBuf>, Error> {
        self.records.layers(id)
    }

    /// Whether an image has something at a path, as a container would see it. Blocks.
    ///
    /// # Errors
    /// An image that is not here, or that cannot be read.
    pub fn has_path(&self, id: &ImageId, path: &Path) -> Result<bool, Error> {
        self.records.has_path(id, path)
    }

    /// Owner and mode of the image's root directory, for the directory above it that a container
    /// writes to: it is what the container sees as its root. Blocks.
    pub fn root(&self, id: &ImageId) -> Result<RootOwner, Error> {
        self.records.root(id)
    }

    /// The users and groups that the image knows. Blocks, and so do their look-ups.
    pub fn users(&self, id: &ImageId) -> Result<Users, Error> {
        self.records.users(id)
    }
}
