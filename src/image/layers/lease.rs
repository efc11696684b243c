//! Guards of layers: one that keeps a finished layer, one that takes an unfinished one away.

use std::{sync::Arc, time::Instant};

use super::{Layer, Layers, PATIENCE, Slot};
use crate::image::{Digest, Error, unpack::Unpacked};

/// Keeps a layer while it lives.
pub(in crate::image) struct Lease {
    pub(super) layers: Arc<Layers>,
    pub(in crate::image) number: u64,
}

/// A directory that a layer grows in; it goes away unless it is finished.
pub(in crate::image) struct Growing {
    pub(super) layers: Arc<Layers>,
    pub(in crate::image) number: u64,
    pub(super) is_finished: bool,
}

impl Growing {
    /// The layer is whole and verified.
    pub(in crate::image) fn finish(
        mut self,
        diff_id: Digest,
        unpacked: Unpacked,
    ) -> Result<Lease, Error> {
        let Unpacked { implied, size, inodes, recipe } = unpacked;
        if recipe.is_none() {
            self.layers.remove_recipe(self.number);
        }
        let boot = self.layers.boot.clone();
        let layer =
            Layer { diff_id, size, inodes, implied, recipe, is_broken: false, settled: None, boot };
        self.layers.write_note(self.number, &layer)?;
        let kept_until = Some(Instant::now() + PATIENCE);
        let slot = Slot { layer, leases: 1, in_database: false, is_current: false, kept_until };
        {
            let mut table = self.layers.lock();
            table.slots.insert(self.number, slot);
            table.growing.remove(&self.number);
        }
        self.is_finished = true;
        Ok(Lease { layers: self.layers.clone(), number: self.number })
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        if let Err(error) = self.layers.remove(self.number) {
            tracing::warn!(layer = self.number, %error, "half a layer is left until the next start");
        }
        self.layers.lock().growing.remove(&self.number);
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        if let Some(slot) = self.layers.lock().slots.get_mut(&self.number) {
            slot.leases += 1;
        }
        Self { layers: self.layers.clone(), number: self.number }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let is_rubbish = {
            let mut table = self.layers.lock();
            let Some(slot) = table.slots.get_mut(&self.number) else { return };
            slot.leases -= 1;
            let is_rubbish = slot.leases == 0 && !slot.in_database && slot.kept_until.is_none();
            if is_rubbish {
                table.slots.remove(&self.number);
            }
            is_rubbish
        };
        if is_rubbish {
            self.layers.remove_aside(self.number);
        }
    }
}
