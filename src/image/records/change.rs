//! Images come, change and go, and with them the layers that nobody needs any more.

use std::{fs, path::Path, sync::Arc, time::Duration};

use super::{LAYERS, Records, State, absent, alone};
use crate::{
    crash,
    image::{
        Error, ImageId,
        images::{self, IMAGES, Names, Record},
        layers::{Lease, PATIENCE, io_error},
    },
    store::Batch,
};

/// An image that is unpacked and about to be recorded.
pub(in crate::image) struct Complete {
    pub(in crate::image) id: ImageId,
    pub(in crate::image) names: Names,
    pub(in crate::image) record: Record,
    /// The layers of the record, in its order.
    pub(in crate::image) leases: Vec<Lease>,
}

impl Records {
    /// Removes what broken pulls have left once their time is over; a store that is closed
    /// until then has nothing to do.
    pub(in crate::image) fn collect_later(self: &Arc<Self>) {
        let records = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
            let Some(records) = records.upgrade() else { return };
            let workers = records.workers.clone();
            if let Err(error) = workers.run(move || records.collect_garbage()).await {
                tracing::warn!(%error, "what a broken pull has left cannot be removed yet");
            }
        });
    }

    /// Removes layers that nobody needs and that no pull has come back for.
    pub(in crate::image) fn collect_garbage(&self) -> Result<(), Error> {
        self.know_holders()?;
        let unneeded = self.take_unneeded(&self.lock());
        self.remove_layers(&unneeded)
    }

    /// Records an image after all of it has reached the disk. The leases last until the
    /// image is visible, so that its layers are needed throughout.
    pub(in crate::image) fn commit(&self, complete: Complete) -> Result<ImageId, Error> {
        let Complete { id, names, mut record, leases } = complete;
        let numbers: Vec<u64> = leases.iter().map(|lease| lease.number).collect();
        if !self.layers.not_in_database(&numbers).is_empty() {
            sync_filesystem(self.layers.directory())?;
        }
        let _alone = alone(&self.changes);
        let fresh = self.layers.not_in_database(&numbers);
        record.layers = numbers;
        let changed = {
            let state = self.lock();
            let record = match state.images.record(&id).cloned() {
                Some(known) => known.with_what_is_signed(record),
                None => record,
            };
            state.images.with_names(id, record, &names)
        };
        let mut batch = Batch::new();
        images::put_all(&mut batch, &changed)?;
        for (number, layer) in &fresh {
            batch.put(LAYERS, &number.to_string(), layer)?;
        }
        crash::point("pull: layers are synced");
        self.database.commit(batch)?;
        crash::point("pull: recorded");
        self.layers.mark_in_database(fresh.iter().map(|(number, _)| *number));
        let unneeded = {
            let mut state = self.lock();
            for (id, record) in changed {
                state.images.put(id, record).map_err(|_| absent(&id))?;
            }
            drop(leases);
            self.take_unneeded(&state)
        };
        self.remove_layers(&unneeded)?;
        Ok(id)
    }

    /// Takes layers that nobody needs out of the table, so that nobody will; the caller
    /// removes them when the state is free again. Until holders are known, nobody knows that.
    pub(in crate::image) fn take_unneeded(&self, state: &State) -> Vec<u64> {
        if !state.holders.are_known() {
            return Vec::new();
        }
        let mut needed = state.images.layers();
        needed.extend(state.holders.layers());
        self.layers.take_unneeded(&needed)
    }

    pub(in crate::image) fn remove_layers(&self, numbers: &[u64]) -> Result<(), Error> {
        self.spools.sweep()?;
        let mut batch = Batch::new();
        for number in numbers {
            batch.delete(LAYERS, &number.to_string());
        }
        self.database.commit(batch)?;
        crash::point("remove layers: forgotten");
        let mut result = Ok(());
        for number in numbers {
            // All are tried, and the first failure is told.
            result = result.and(self.layers.remove(*number));
        }
        result
    }

    /// Removes an image with all its names; one that is not there is no error. Its layers
    /// go at once, except those that another image has or somebody holds.
    pub(in crate::image) fn remove(&self, name: &str) -> Result<(), Error> {
        self.know_holders()?;
        let _alone = alone(&self.changes);
        let Some(id) = self.lock().images.find(name) else { return Ok(()) };
        self.database.delete(IMAGES, &id.to_string())?;
        crash::point("remove image: forgotten");
        let unneeded = {
            let mut state = self.lock();
            state.images.remove(&id);
            self.take_unneeded(&state)
        };
        self.remove_layers(&unneeded)
    }

    /// Marks an image as one that garbage collection passes over, or not.
    pub(in crate::image) fn set_pinned(&self, id: &ImageId, pinned: bool) -> Result<(), Error> {
        let _alone = alone(&self.changes);
        let record = self.lock().images.record(id).cloned().ok_or_else(|| absent(id))?;
        if record.pinned == pinned {
            return Ok(());
        }
        let record = Record { pinned, ..record };
        self.database.put(IMAGES, &id.to_string(), &record)?;
        self.lock().images.put(*id, record).map_err(|_| absent(id))
    }
}

fn sync_filesystem(path: &Path) -> Result<(), Error> {
    let failed = io_error("sync the file system of", path);
    let directory = fs::File::open(path).map_err(&failed)?;
    rustix::fs::syncfs(&directory).map_err(|errno| failed(errno.into()))
}
