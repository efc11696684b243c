//! The unpacked layers on disk: numbered directories, shared by diff id.
//!
//! A layer that is unpacked but belongs to no image yet has a note beside its directory,
//! which makes it good for a later pull as long as the machine does not reboot; with its
//! image it comes into the database, after everything is on the disk. A directory that has
//! neither is rubbish. Leases keep layers from going while somebody works with them.

mod lease;
mod open;
mod trash;
mod verify;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::{Digest, Error, stream::Target};
pub(super) use lease::{Growing, Lease};
pub(super) use open::boot_id;
use trash::Trash;
pub(super) use verify::Depth;

/// The directory of recipes, beside that of layers.
pub(super) const RECIPES: &str = "recipes";
/// How long the layers of a broken pull wait for the next attempt.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// What is known of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) diff_id: Digest,
    pub(super) size: u64,
    pub(super) inodes: u64,
    /// Directories that have owner and mode from below.
    pub(super) implied: Vec<Vec<u8>>,
    /// Bytes of its recipe, where it has one.
    #[serde(default)]
    pub(super) recipe: Option<u64>,
    /// It is not any more what was unpacked, and only stays for those who have it.
    #[serde(default)]
    pub(super) is_broken: bool,
    /// What they got in the first stack that the layer joined.
    pub(super) settled: Option<Vec<Owner>>,
    /// The boot in which it was unpacked.
    boot: String,
}

/// Mode, user and group of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Where it was moved, because the layers below have a link in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<Vec<u8>>,
}

struct Slot {
    layer: Layer,
    leases: usize,
    /// The database has it, perhaps in an older form.
    in_database: bool,
    /// The database has it as it is.
    is_current: bool,
    /// Without an image or a lease it stays until then.
    kept_until: Option<Instant>,
}

struct Table {
    slots: BTreeMap<u64, Slot>,
    /// Those that are being unpacked.
    growing: BTreeSet<u64>,
    next: u64,
}

pub(super) struct Layers {
    directory: PathBuf,
    /// How to make the archive of a layer again, by its number.
    recipes: PathBuf,
    trash: Trash,
    boot: String,
    // A short critical section: look-ups and counts.
    table: Mutex<Table>,
}

impl Layers {
    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    /// All layers that are in service.
    pub(super) fn all(self: &Arc<Self>) -> Vec<Lease> {
        let numbers: Vec<u64> = self.lock().slots.keys().copied().collect();
        numbers.into_iter().filter_map(|number| self.lease(number)).collect()
    }

    /// The numbers of all that are in service or being unpacked.
    pub(super) fn numbers(&self) -> BTreeSet<u64> {
        let table = self.lock();
        table.slots.keys().chain(&table.growing).copied().collect()
    }

    /// Takes layers out of service. Gives those that the database has.
    pub(super) fn mark_broken(&self, numbers: &BTreeSet<u64>) -> Vec<(u64, Layer)> {
        let mut table = self.lock();
        let broken = table.slots.iter_mut().filter(|(number, _)| numbers.contains(number));
        let known = broken.filter_map(|(number, slot)| {
            slot.layer.is_broken = true;
            slot.kept_until = None;
            slot.in_database.then(|| (*number, slot.layer.clone()))
        });
        known.collect()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.directory.join(number.to_string())
    }

    fn recipe(&self, number: u64) -> PathBuf {
        self.recipes.join(number.to_string())
    }

    /// Starts a layer in a directory of its own.
    pub(super) fn begin(self: &Arc<Self>) -> Result<(Growing, Target), Error> {
        let number = {
            let mut table = self.lock();
            table.next += 1;
            let number = table.next - 1;
            table.growing.insert(number);
            number
        };
        let growing = Growing { layers: self.clone(), number, is_finished: false };
        let path = self.path(number);
        fs::create_dir(&path).map_err(io_error("make", &path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| io_error("open", &path)(errno.into()))?;
        let recipe = self.recipe(number);
        let recipe = fs::File::create_new(&recipe).map_err(io_error("make", &recipe))?;
        Ok((growing, Target { root, recipe: Some(recipe) }))
    }

    /// Any finished layer of that diff id.
    pub(super) fn find(self: &Arc<Self>, diff_id: &Digest) -> Option<Lease> {
        self.candidates(diff_id).into_iter().next()
    }

    /// All finished layers of that diff id.
    pub(super) fn candidates(self: &Arc<Self>, diff_id: &Digest) -> Vec<Lease> {
        let mut table = self.lock();
        let fits = |layer: &Layer| layer.diff_id == *diff_id && !layer.is_broken;
        let found = table.slots.iter_mut().filter(|(_, slot)| fits(&slot.layer));
        let found = found.map(|(number, slot)| {
            slot.leases += 1;
            Lease { layers: self.clone(), number: *number }
        });
        found.collect()
    }

    pub(super) fn lease(self: &Arc<Self>, number: u64) -> Option<Lease> {
        let mut table = self.lock();
        table.slots.get_mut(&number).filter(|slot| !slot.layer.is_broken)?.leases += 1;
        Some(Lease { layers: self.clone(), number })
    }

    pub(super) fn get(&self, number: u64) -> Option<Layer> {
        self.lock().slots.get(&number).map(|slot| slot.layer.clone())
    }

    /// Those of the layers that the database does not have in their present form.
    pub(super) fn not_in_database(&self, numbers: &[u64]) -> Vec<(u64, Layer)> {
        let table = self.lock();
        let slots = numbers.iter().filter_map(|number| Some((*number, table.slots.get(number)?)));
        slots
            .filter(|(_, slot)| !slot.is_current)
            .map(|(number, slot)| (number, slot.layer.clone()))
            .collect()
    }

    pub(super) fn mark_in_database(&self, numbers: impl Iterator<Item = u64>) {
        let mut noted = Vec::new();
        {
            let mut table = self.lock();
            for number in numbers {
                if let Some(slot) = table.slots.get_mut(&number) {
                    (slot.in_database, slot.is_current, slot.kept_until) = (true, true, None);
                    noted.push(self.path(number).with_extension("json"));
                }
            }
        }
        for note in noted {
            fs::remove_file(note).ok();
        }
    }

    /// Makes the layer rubbish for a restart, until [`Layers::settle`] notes it again.
    pub(super) fn unsettle(&self, number: u64) -> Result<(), Error> {
        let path = self.path(number).with_extension("json");
        fs::remove_file(&path).map_err(io_error("remove", &path))
    }

    /// Notes what the layer's implied directories got.
    pub(super) fn settle(&self, number: u64, owners: Vec<Owner>) -> Result<(), Error> {
        let layer = {
            let mut table = self.lock();
            let Some(slot) = table.slots.get_mut(&number) else { return Ok(()) };
            slot.layer.settled = Some(owners);
            slot.is_current = false;
            slot.layer.clone()
        };
        self.write_note(number, &layer)
    }

    /// Makes layers that only wait for another attempt free to go.
    pub(super) fn forget(&self, diff_ids: &[Digest]) {
        let mut table = self.lock();
        for slot in table.slots.values_mut().filter(|slot| diff_ids.contains(&slot.layer.diff_id)) {
            slot.kept_until = None;
        }
    }

    /// Takes out of the table what nobody needs. Their directories are to be removed by
    /// [`Layers::remove`] once the database does not have them any more.
    pub(super) fn take_unneeded(&self, needed: &BTreeSet<u64>) -> Vec<u64> {
        let mut table = self.lock();
        let now = Instant::now();
        let unneeded = table.slots.iter().filter(|(number, slot)| {
            slot.leases == 0
                && !needed.contains(number)
                && slot.kept_until.is_none_or(|kept_until| kept_until <= now)
        });
        let unneeded: Vec<u64> = unneeded.map(|(number, _)| *number).collect();
        for number in &unneeded {
            table.slots.remove(number);
        }
        unneeded
    }

    pub(super) fn remove(&self, number: u64) -> Result<(), Error> {
        let path = self.path(number);
        fs::remove_file(path.with_extension("json")).ok();
        self.remove_recipe(number);
        self.trash.discard(&path)
    }

    /// The layer's directory no longer has all that its archive has.
    pub(super) fn lose_recipe(&self, number: u64) {
        if let Some(slot) = self.lock().slots.get_mut(&number) {
            slot.layer.recipe = None;
        }
        self.remove_recipe(number);
    }

    fn remove_recipe(&self, number: u64) {
        fs::remove_file(self.recipe(number)).ok();
    }

    /// Removes a layer of a pull that failed, without making an async task wait for it.
    fn remove_aside(self: &Arc<Self>, number: u64) {
        let layers = self.clone();
        let remove = move || {
            if let Err(error) = layers.remove(number) {
                tracing::warn!(layer = number, %error, "a layer is left until the next start");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }

    /// Bytes and inodes of all layers that are finished.
    pub(super) fn usage(&self) -> (u64, u64) {
        let table = self.lock();
        table.slots.values().fold((0, 0), |(size, inodes), slot| {
            let recipe = slot.layer.recipe.map_or(0, |size| size.next_multiple_of(4096));
            (size + slot.layer.size + recipe, inodes + slot.layer.inodes)
        })
    }

    fn write_note(&self, number: u64, layer: &Layer) -> Result<(), Error> {
        let path = self.path(number).with_extension("json");
        let note = serde_json::to_vec(layer).map_err(io::Error::other);
        // Written whole and then renamed: half a note would be taken for none.
        let new = self.trash.fresh("note");
        note.and_then(|note| fs::write(&new, note))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(io_error("write", &path))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns an I/O error into one that says what was attempted.
pub(super) fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { operation, path: path.clone(), source }
}
