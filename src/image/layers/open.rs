//! What a new daemon finds of layers, and what of it goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

use super::{Layer, Layers, PATIENCE, RECIPES, Slot, Table, io_error, trash::Trash};
use crate::image::Error;

impl Layers {
    /// Takes over the layers of the database and those of broken pulls; removes the rest.
    pub(in crate::image) fn open(
        directory: PathBuf,
        trash: PathBuf,
        known: Vec<(u64, Layer)>,
    ) -> Result<Self, Error> {
        let trash = Trash::open(trash)?;
        spread(&directory);
        let boot = boot_id();
        let mut slots: BTreeMap<u64, Slot> = known
            .into_iter()
            .map(|(number, layer)| {
                (
                    number,
                    Slot {
                        layer,
                        leases: 0,
                        in_database: true,
                        is_current: true,
                        kept_until: None,
                    },
                )
            })
            .collect();
        let failed = io_error("list", &directory);
        for entry in fs::read_dir(&directory).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.parse::<u64>().ok());
            let Some(number) = number.filter(|number| !slots.contains_key(number)) else {
                continue;
            };
            match read_note(&path.with_extension("json")).filter(|layer| layer.boot == boot) {
                Some(layer) => {
                    let kept_until = Some(Instant::now() + PATIENCE);
                    slots.insert(
                        number,
                        Slot {
                            layer,
                            leases: 0,
                            in_database: false,
                            is_current: false,
                            kept_until,
                        },
                    );
                }
                None => {
                    if let Err(error) = trash.discard(&path) {
                        tracing::warn!(%error, "half a layer is left until the next start");
                    }
                }
            }
        }
        let next = slots.keys().next_back().map_or(1, |last| last + 1);
        let recipes = directory.with_file_name(RECIPES);
        let table = Mutex::new(Table { slots, growing: BTreeSet::new(), next });
        let layers = Self { directory, recipes, trash, boot, table };
        layers.remove_old_notes();
        layers.remove_old_recipes();
        Ok(layers)
    }

    fn remove_old_notes(&self) {
        let table = self.lock();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.parse::<u64>().ok());
            let is_needed =
                number.and_then(|n| table.slots.get(&n)).is_some_and(|slot| !slot.in_database);
            if path.extension().is_some_and(|extension| extension == "json") && !is_needed {
                fs::remove_file(&path).ok();
            }
        }
    }

    fn remove_old_recipes(&self) {
        let table = self.lock();
        for entry in fs::read_dir(&self.recipes).into_iter().flatten().flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if !number.is_some_and(|number| table.slots.contains_key(&number)) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// Names the time since the machine was started, as a line of its own.
pub(in crate::image) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Lets ext4 put every layer into a block group of its own, by the flag of directories whose
/// entries have nothing to do with each other (`T` of chattr(1)). Otherwise layers are made
/// where others were just removed, and ext4 looks at each inode of theirs, for none is used
/// again within some seconds: a pull after a removal takes several times as long. Other file
/// systems do not know the flag.
fn spread(directory: &Path) {
    let Ok(directory) = fs::File::open(directory) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&directory) {
        let _ = rustix::fs::ioctl_setflags(&directory, flags | rustix::fs::IFlags::TOPDIR);
    }
}

fn read_note(path: &Path) -> Option<Layer> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
