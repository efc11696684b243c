//! The ground of the store: what images, layers and holders there are, and how they change
//! together. Pulls, imports, exports, admission and verification stand on it and come to each
//! other only through it.

mod change;
mod trees;

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Error, FsUsage, Image, ImageId, Options,
    holders::{self, Holders},
    images::Images,
    layers::{Layer, Layers, RECIPES, boot_id, io_error},
    rules::CurrentRules,
    spool::Spools,
    stream::{Program, Windows},
    task::Workers,
};
use crate::store::Database;
pub(super) use change::Complete;

/// The database's collection of layers, by number.
pub(super) const LAYERS: &str = "layers";

/// All images of this machine, with their layers and those who hold them.
pub(super) struct Records {
    pub(super) options: Options,
    pub(super) database: Arc<Database>,
    pub(super) layers: Arc<Layers>,
    pub(super) spools: Arc<Spools>,
    pub(super) rules: CurrentRules,
    pub(super) workers: Workers,
    /// What decompression may take.
    pub(super) windows: Arc<Windows>,
    holders: holders::Files,
    // A short critical section: never held while the disk is waited for.
    state: Mutex<State>,
    /// Holders are read once; taken before `state`.
    reading: Mutex<()>,
    /// Changes of images are made one after the other; taken before `state`.
    pub(super) changes: Mutex<()>,
    /// Layers join their stacks one image after the other.
    settling: Mutex<()>,
}

pub(super) struct State {
    pub(super) images: Images,
    pub(super) holders: Holders,
}

impl Records {
    /// Reads what there is beneath `options.root`.
    pub(super) fn open(options: Options, database: Arc<Database>) -> Result<Self, Error> {
        let [layers, temporary, holders, recipes] =
            ["layers", "tmp", "holders", RECIPES].map(|name| options.root.join(name));
        for directory in [&options.root, &layers, &temporary, &holders, &recipes] {
            private_directory(directory)?;
        }
        let known = known_layers(&database, &layers)?;
        let layers = Arc::new(Layers::open(layers, temporary, known)?);
        let images = Images::load(&database, |number| layers.get(number).is_some())?;
        let spools = Spools::open(&options.root.join("spool"), boot_id().trim())?;
        let state = Mutex::new(State { images, holders: Holders::default() });
        Ok(Self {
            rules: CurrentRules::new(options.rules.clone()),
            options,
            database,
            layers,
            spools,
            workers: Workers::default(),
            windows: Arc::default(),
            holders: holders::Files::new(holders),
            state,
            reading: Mutex::new(()),
            changes: Mutex::new(()),
            settling: Mutex::new(()),
        })
    }

    /// What decompresses what strangers have compressed.
    pub(super) fn decompressor(&self) -> Option<Program> {
        self.options.decompressor.as_deref().map(Program::at)
    }

    /// All images, in the order of their ids.
    pub(super) fn list(&self) -> Vec<Image> {
        let rules = self.rules.get();
        self.lock().images.list().into_iter().map(|image| image.by(&rules)).collect()
    }

    /// The image of a reference, of an id with or without `sha256:`, or of the beginning of
    /// an id that no other image shares.
    pub(super) fn find(&self, name: &str) -> Option<Image> {
        let rules = self.rules.get();
        let state = self.lock();
        let image = state.images.find(name).and_then(|id| state.images.get(&id));
        image.map(|image| image.by(&rules))
    }

    /// The size of all layers, as it was recorded when they were unpacked, and of what is
    /// here of large layers on their way.
    pub(super) fn fs_usage(&self) -> FsUsage {
        let (layer_bytes, inodes_used) = self.layers.usage();
        let used_bytes = layer_bytes + self.spools.usage();
        FsUsage { path: self.options.root.clone(), used_bytes, inodes_used }
    }

    /// Reads who holds layers, once. Waits for the disk.
    pub(super) fn know_holders(&self) -> Result<(), Error> {
        let _reading = alone(&self.reading);
        let are_known = self.lock().holders.are_known();
        if !are_known {
            let earlier = self.holders.read()?;
            self.lock().holders.know(earlier);
        }
        Ok(())
    }

    /// The same where an image is not here any more, so that only its holders have it.
    fn know_layers_of(&self, id: &ImageId) -> Result<(), Error> {
        let is_here = self.lock().images.record(id).is_some();
        if is_here { Ok(()) } else { self.know_holders() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn layers(&self, id: &ImageId) -> Option<&[u64]> {
        match self.images.record(id) {
            Some(record) => Some(&record.layers),
            None => self.holders.layers_of(id),
        }
    }
}

/// The layers of the database that are on the disk. The others are forgotten, so that none of
/// their numbers is ever taken for a layer that has nothing to do with it.
/// The numbers of the layers that the database has. Waits for the disk.
///
/// # Errors
/// When it cannot be read.
pub fn recorded_layers(database: &Database) -> Result<Vec<u64>, Error> {
    let layers = database.list::<Layer>(LAYERS)?;
    Ok(layers.iter().filter_map(|(key, _)| key.parse().ok()).collect())
}

fn known_layers(database: &Database, directory: &Path) -> Result<Vec<(u64, Layer)>, Error> {
    let mut known = Vec::new();
    for (key, layer) in database.list::<Layer>(LAYERS)? {
        match key.parse::<u64>() {
            Ok(number) if directory.join(&key).is_dir() => known.push((number, layer)),
            _ => database.delete(LAYERS, &key)?,
        }
    }
    Ok(known)
}

/// Waits until nobody else has the lock, which guards no data.
pub(super) fn alone(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn absent(id: &ImageId) -> Error {
    Error::Absent { name: id.to_string() }
}

/// Makes a directory that only its owner may enter, or makes it so.
fn private_directory(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_error("make", path))?;
    // A disk may have become read-only since it was made.
    match fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o7777) {
        Ok(0o700) => Ok(()),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(io_error("close to others", path)),
    }
}
