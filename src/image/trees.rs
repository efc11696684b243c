//! What containers get of images: the directories that make up a tree, kept for as long as
//! somebody has them, and looked into without a mount.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    Error, ImageId, ImageStore, Users, holders::Held, layers::io_error, stack::Stack, store::absent,
};

impl ImageStore {
    /// Keeps the layers of an image for `holder`, also beyond the image's removal and the
    /// daemon's end, until they are released. Gives them as [`ImageStore::layers`] does.
    pub fn hold(&self, id: &ImageId, holder: &str) -> Result<Vec<PathBuf>, Error> {
        self.hold_with_volumes(id, &[], holder).map(|(layers, _)| layers)
    }

    /// The same, with images that are mounted beside it: their layers come in their order.
    pub fn hold_with_volumes(
        &self,
        id: &ImageId,
        volumes: &[ImageId],
        holder: &str,
    ) -> Result<(Vec<PathBuf>, Vec<Vec<PathBuf>>), Error> {
        let held = {
            let mut state = self.lock();
            let held = |id: &ImageId| {
                let layers = state.layers(id).ok_or_else(|| absent(id))?.to_vec();
                Ok::<_, Error>(Held { image: *id, layers, volumes: Vec::new() })
            };
            let volumes = volumes.iter().map(held).collect::<Result<_, _>>()?;
            let held = Held { volumes, ..held(id)? };
            state.holders.hold(holder, held.clone())?;
            held
        };
        let volumes = held.volumes.iter().map(|volume| self.directories(&volume.layers)).collect();
        Ok((self.directories(&held.layers), volumes))
    }

    /// Whether an image has something at a path, as a container would see it.
    ///
    /// # Errors
    /// An image that is not here, or that cannot be read.
    pub fn has_path(&self, id: &ImageId, path: &Path) -> Result<bool, Error> {
        let directories = self.layers(id)?;
        let failed = io_error("look into", self.layers.directory());
        Stack::open(&directories).and_then(|stack| stack.has(path)).map_err(failed)
    }

    /// What a holder holds, as [`ImageStore::hold`] gave it; the image may have been removed
    /// and pulled into other directories since.
    pub fn held_layers(&self, holder: &str) -> Option<Vec<PathBuf>> {
        let layers = self.lock().holders.layers_held_by(holder)?.to_vec();
        Some(self.directories(&layers))
    }

    /// Ends a hold; one that is not there is no error.
    pub fn release(&self, holder: &str) -> Result<(), Error> {
        let unneeded = {
            let mut state = self.lock();
            state.holders.release(holder)?;
            self.take_unneeded(&state)
        };
        self.remove_layers(&unneeded)
    }

    /// Everyone who holds layers.
    pub fn holders(&self) -> Vec<String> {
        self.lock().holders.names()
    }

    /// The directories of an image's layers, the top one first, none of them twice.
    pub fn layers(&self, id: &ImageId) -> Result<Vec<PathBuf>, Error> {
        let numbers = self.lock().layers(id).ok_or_else(|| absent(id))?.to_vec();
        Ok(self.directories(&numbers))
    }

    /// The users and groups that the image knows.
    pub fn users(&self, id: &ImageId) -> Result<Users, Error> {
        let directories = self.layers(id)?;
        let stack = Stack::open(&directories).map_err(io_error("open", self.layers.directory()))?;
        Users::open(*id, &stack)
    }

    /// From the numbers of layers, the lowest first, to directories, the top one first. A
    /// layer that comes twice counts where it is highest: overlay refuses it twice, and the
    /// lower one would be hidden.
    pub(super) fn directories(&self, numbers: &[u64]) -> Vec<PathBuf> {
        let mut seen = BTreeSet::new();
        let top_first = numbers.iter().rev().filter(|number| seen.insert(**number));
        top_first.map(|number| self.layers.path(*number)).collect()
    }
}
