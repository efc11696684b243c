//! What containers get of images: the directories that make up a tree, kept for as long as
//! somebody has them, and looked into without a mount.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Records, absent, alone};
use crate::image::{
    Digest, Error, ImageId, RootOwner, Users,
    holders::Held,
    layers::{Lease, io_error},
    settle,
    stack::Stack,
};

impl Records {
    /// Keeps the layers of an image for `holder`, also beyond the image's removal and the
    /// daemon's end, until they are released. Gives them as [`Records::layers`] does.
    pub(in crate::image) fn hold(&self, id: &ImageId, holder: &str) -> Result<Vec<PathBuf>, Error> {
        self.hold_with_volumes(id, &[], holder).map(|(layers, _)| layers)
    }

    /// The same, with images that are mounted beside it: their layers come in their order.
    pub(in crate::image) fn hold_with_volumes(
        &self,
        id: &ImageId,
        volumes: &[ImageId],
        holder: &str,
    ) -> Result<(Vec<PathBuf>, Vec<Vec<PathBuf>>), Error> {
        for id in [id].into_iter().chain(volumes) {
            self.know_layers_of(id)?;
        }
        let held = {
            let mut state = self.lock();
            let held = |id: &ImageId| {
                let layers = state.layers(id).ok_or_else(|| absent(id))?.to_vec();
                Ok::<_, Error>(Held { image: *id, layers, volumes: Vec::new() })
            };
            let volumes = volumes.iter().map(held).collect::<Result<_, _>>()?;
            let held = Held { volumes, ..held(id)? };
            state.holders.note(holder, held.clone());
            held
        };
        if let Err(error) = self.holders.write(holder, &held) {
            self.lock().holders.forget(holder);
            return Err(error);
        }
        let volumes = held.volumes.iter().map(|volume| self.directories(&volume.layers)).collect();
        Ok((self.directories(&held.layers), volumes))
    }

    /// Whether an image has something at a path, as a container would see it.
    ///
    /// # Errors
    /// An image that is not here, or that cannot be read.
    pub(in crate::image) fn has_path(&self, id: &ImageId, path: &Path) -> Result<bool, Error> {
        let directories = self.layers(id)?;
        let failed = io_error("look into", self.layers.directory());
        Stack::open(&directories).and_then(|stack| stack.has(path)).map_err(failed)
    }

    /// What a holder holds, as [`Records::hold`] gave it; the image may have been removed
    /// and pulled into other directories since.
    pub(in crate::image) fn held_layers(&self, holder: &str) -> Option<Vec<PathBuf>> {
        self.know_holders().ok()?;
        let layers = self.lock().holders.layers_held_by(holder)?.to_vec();
        Some(self.directories(&layers))
    }

    /// Ends a hold; one that is not there is no error.
    pub(in crate::image) fn release(&self, holder: &str) -> Result<(), Error> {
        self.know_holders()?;
        self.holders.remove(holder)?;
        let unneeded = {
            let mut state = self.lock();
            state.holders.forget(holder);
            self.take_unneeded(&state)
        };
        self.remove_layers(&unneeded)
    }

    /// Everyone who holds layers.
    pub(in crate::image) fn holders(&self) -> Result<Vec<String>, Error> {
        self.know_holders()?;
        Ok(self.lock().holders.names())
    }

    /// The directories of an image's layers, the top one first, none of them twice.
    pub(in crate::image) fn layers(&self, id: &ImageId) -> Result<Vec<PathBuf>, Error> {
        self.know_layers_of(id)?;
        let numbers = self.lock().layers(id).ok_or_else(|| absent(id))?.to_vec();
        Ok(self.directories(&numbers))
    }

    /// Owner and mode of the image's root directory.
    pub(in crate::image) fn root(&self, id: &ImageId) -> Result<RootOwner, Error> {
        let directories = self.layers(id)?;
        let Some(top) = directories.first() else { return Ok(RootOwner::default()) };
        // Where the layer does not say, it was given what those below say.
        let metadata = fs::metadata(top).map_err(io_error("look at", top))?;
        let mode = metadata.mode() & 0o7777;
        Ok(RootOwner { uid: metadata.uid(), gid: metadata.gid(), mode })
    }

    /// The users and groups that the image knows.
    pub(in crate::image) fn users(&self, id: &ImageId) -> Result<Users, Error> {
        let directories = self.layers(id)?;
        let stack = Stack::open(&directories).map_err(io_error("open", self.layers.directory()))?;
        Users::open(*id, &stack)
    }

    /// From the numbers of layers, the lowest first, to directories, the top one first. A
    /// layer that comes twice counts where it is highest: overlay refuses it twice, and the
    /// lower one would be hidden.
    pub(in crate::image) fn directories(&self, numbers: &[u64]) -> Vec<PathBuf> {
        let mut seen = BTreeSet::new();
        let top_first = numbers.iter().rev().filter(|number| seen.insert(**number));
        top_first.map(|number| self.layers.path(*number)).collect()
    }

    /// A layer of that diff id that fits upon those below, the lowest first.
    pub(in crate::image) fn settle(
        &self,
        below: &[u64],
        diff_id: &Digest,
    ) -> Result<Option<Lease>, Error> {
        let _alone = alone(&self.settling);
        let candidates = self.layers.candidates(diff_id);
        settle::settle(&self.layers, &candidates, &self.directories(below))
    }
}
