//! The store: what there is, what it needs, and how the two change together.

use std::{
    fs,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{
    Auth, Digest, Error, FsUsage, Image, ImageId, Options, Reference, Rules, export,
    holders::Holders,
    images::{self, IMAGES, Images, Names, Record},
    import,
    join::Joint,
    layers::{Depth, Layer, Layers, Lease, PATIENCE, RECIPES, boot_id, io_error},
    metrics::{Gauges, Metrics},
    progress::{PullProgress, Pulls},
    pull,
    registry::Clients,
    spool::Spools,
    verify,
};
use crate::store::{Batch, Database};

/// The database's collection of layers, by number.
pub(super) const LAYERS: &str = "layers";
/// All pulls together run at most this many times the downloads of one.
const PULLS_AT_ONCE: usize = 4;
/// And at most this many times as many requests for ranges, each of which has buffers.
const RANGES_AT_ONCE: usize = 2;

/// All images of this machine.
pub struct ImageStore {
    pub(super) options: Options,
    database: Arc<Database>,
    pub(super) layers: Arc<Layers>,
    // A short critical section: never held while the disk is waited for.
    state: Mutex<State>,
    /// Changes of images are made one after the other; taken before `state`.
    pub(super) changes: Mutex<()>,
    /// Layers join their stacks one image after the other.
    pub(super) settling: Mutex<()>,
    // A short critical section: a copy of the pointer.
    rules: Mutex<Arc<Rules>>,
    pub(super) clients: Clients,
    pub(super) permits: Semaphore,
    /// Requests for ranges of large layers.
    pub(super) connections: Semaphore,
    pub(super) spools: Arc<Spools>,
    pub(super) pulls: Arc<Pulls>,
    pub(super) metrics: Metrics,
    joint_pulls: Joint<(String, Option<Auth>, String), ImageId>,
    pub(super) downloads: Joint<(Digest, Digest), Lease>,
    /// See [`ImageStore::is_suspicious`].
    pub(super) is_suspicious: AtomicBool,
}

pub(super) struct State {
    pub(super) images: Images,
    pub(super) holders: Holders,
}

/// An image that is unpacked and about to be recorded.
pub(super) struct Complete {
    pub(super) id: ImageId,
    pub(super) names: Names,
    pub(super) record: Record,
    /// The layers of the record, in its order.
    pub(super) leases: Vec<Lease>,
}

impl ImageStore {
    /// Opens the store beneath `options.root`. What an interrupted pull left behind goes,
    /// except whole layers, which the next pull may take up within some minutes.
    pub fn open(options: Options, database: Arc<Database>) -> Result<Self, Error> {
        // The one provider of cryptography; a second start within a process changes nothing.
        rustls::crypto::ring::default_provider().install_default().ok();
        let [layers, temporary, holders, recipes] =
            ["layers", "tmp", "holders", RECIPES].map(|name| options.root.join(name));
        for directory in [&options.root, &layers, &temporary, &holders, &recipes] {
            private_directory(directory)?;
        }
        let known = known_layers(&database, &layers)?;
        let layers = Arc::new(Layers::open(layers, temporary, known)?);
        let images = Images::load(&database, |number| layers.get(number).is_some())?;
        let is_suspicious = verify::begin(&database, layers.boot())?;
        let spools = Spools::open(&options.root.join("spool"), boot_id().trim())?;
        let parallel = options.max_parallel_downloads.max(1);
        let [permits, connections] =
            [PULLS_AT_ONCE, RANGES_AT_ONCE].map(|times| Semaphore::new(parallel * times));
        let store = Self {
            rules: Mutex::new(Arc::new(options.rules.clone())),
            options,
            database,
            layers,
            state: Mutex::new(State { images, holders: Holders::open(holders)? }),
            changes: Mutex::new(()),
            settling: Mutex::new(()),
            clients: Clients::default(),
            permits,
            connections,
            spools,
            pulls: Arc::default(),
            metrics: Metrics::default(),
            joint_pulls: Joint::default(),
            downloads: Joint::default(),
            is_suspicious: AtomicBool::new(is_suspicious),
        };
        if is_suspicious {
            store.verify_to(Depth::Sizes)?;
        }
        store.collect_garbage()?;
        Ok(store)
    }

    /// Replaces the rules; pulls that are under way go on by the old ones.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pulls an image. A pull of the same reference with the same credentials that is under
    /// way is joined; when nobody waits for a pull any longer, it is cancelled. The whole id of
    /// an image is as good as its name, as long as the image is here.
    pub async fn pull(
        self: &Arc<Self>,
        reference: &str,
        auth: Option<Auth>,
    ) -> Result<ImageId, Error> {
        self.pull_for(reference, auth, "").await
    }

    /// The same for a pod of a namespace, whose signature policy decides.
    pub async fn pull_for(
        self: &Arc<Self>,
        reference: &str,
        auth: Option<Auth>,
        namespace: &str,
    ) -> Result<ImageId, Error> {
        if let Some(id) = self.lock().images.with_id(reference) {
            return Ok(id);
        }
        let reference = Reference::parse(reference)?;
        let key = (reference.to_string(), auth.clone(), namespace.to_owned());
        let store = self.clone();
        let namespace = namespace.to_owned();
        let start = || pull::pull(store, reference, auth, namespace);
        let (_, result) = self.joint_pulls.run(key, start).await;
        result.map_err(Error::Joined)
    }

    /// The pulls that are under way, in the order of their beginnings.
    pub fn pulls(&self) -> Vec<PullProgress> {
        self.pulls.list()
    }

    /// The pull of a reference that is under way.
    pub fn pull_progress(&self, reference: &Reference) -> Option<PullProgress> {
        self.pulls.find(&reference.to_string())
    }

    /// Figures since the store was opened, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        let usage = self.fs_usage();
        self.metrics.text(&Gauges {
            pulls: self.pulls.list().len() as u64,
            images: self.lock().images.count() as u64,
            bytes: usage.used_bytes,
            inodes: usage.inodes_used,
        })
    }

    /// All images, in the order of their ids.
    pub fn list(&self) -> Vec<Image> {
        let rules = self.rules();
        self.lock().images.list().into_iter().map(|image| image.by(&rules)).collect()
    }

    /// The image of a reference, of an id with or without `sha256:`, or of the beginning of
    /// an id that no other image shares.
    pub fn find(&self, name: &str) -> Option<Image> {
        let rules = self.rules();
        let state = self.lock();
        let image = state.images.find(name).and_then(|id| state.images.get(&id));
        image.map(|image| image.by(&rules))
    }

    /// Removes an image with all its names; one that is not there is no error. Its layers
    /// go at once, except those that another image has or somebody holds.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let _alone = alone(&self.changes);
        let Some(id) = self.lock().images.find(name) else { return Ok(()) };
        self.database.delete(IMAGES, &id.to_string())?;
        let unneeded = {
            let mut state = self.lock();
            state.images.remove(&id);
            self.take_unneeded(&state)
        };
        self.remove_layers(&unneeded)
    }

    /// Marks an image as one that garbage collection passes over, or not.
    pub fn set_pinned(&self, id: &ImageId, pinned: bool) -> Result<(), Error> {
        let _alone = alone(&self.changes);
        let record = self.lock().images.record(id).cloned().ok_or_else(|| absent(id))?;
        if record.pinned == pinned {
            return Ok(());
        }
        let record = Record { pinned, ..record };
        self.database.put(IMAGES, &id.to_string(), &record)?;
        self.lock().images.put(*id, record).map_err(|_| absent(id))
    }

    /// The size of all layers, as it was recorded when they were unpacked, and of what is
    /// here of large layers on their way.
    pub fn fs_usage(&self) -> FsUsage {
        let (layer_bytes, inodes_used) = self.layers.usage();
        let used_bytes = layer_bytes + self.spools.usage();
        FsUsage { path: self.options.root.clone(), used_bytes, inodes_used }
    }

    /// Imports the images of a tar archive, as `docker save` and OCI tools write them; gzip
    /// and zstd around it are fine. Blocks.
    pub fn import(&self, archive: &Path) -> Result<Vec<Image>, Error> {
        import::import(self, archive)
    }

    /// Writes images, each with all its tags, as one tar archive that [`ImageStore::import`],
    /// Docker and OCI tools read. Blocks.
    ///
    /// # Errors
    /// An image that is not here; a layer whose archive cannot be made again as it was. What
    /// has been written by then is of no use.
    pub fn export(&self, names: &[String], sink: &mut dyn Write) -> Result<(), Error> {
        export::export(self, names, sink)
    }

    /// Removes what broken pulls have left once their time is over; a store that is closed
    /// until then has nothing to do.
    pub fn collect_later(self: &Arc<Self>) {
        let store = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
            let Some(store) = store.upgrade() else { return };
            let collected = tokio::task::spawn_blocking(move || store.collect_garbage()).await;
            if let Ok(Err(error)) = collected {
                tracing::warn!(%error, "what a broken pull has left cannot be removed yet");
            }
        });
    }

    /// Removes layers that nobody needs and that no pull has come back for.
    pub fn collect_garbage(&self) -> Result<(), Error> {
        let unneeded = self.take_unneeded(&self.lock());
        self.remove_layers(&unneeded)
    }

    /// Records an image after all of it has reached the disk. The leases last until the
    /// image is visible, so that its layers are needed throughout.
    pub(super) fn commit(&self, complete: Complete) -> Result<ImageId, Error> {
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
        self.database.commit(batch)?;
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
    /// removes them when the state is free again.
    pub(super) fn take_unneeded(&self, state: &State) -> Vec<u64> {
        let mut needed = state.images.layers();
        needed.extend(state.holders.layers());
        self.layers.take_unneeded(&needed)
    }

    pub(super) fn remove_layers(&self, numbers: &[u64]) -> Result<(), Error> {
        self.spools.sweep()?;
        let mut batch = Batch::new();
        for number in numbers {
            batch.delete(LAYERS, &number.to_string());
        }
        self.database.commit(batch)?;
        let mut result = Ok(());
        for number in numbers {
            // All are tried, and the first failure is told.
            result = result.and(self.layers.remove(*number));
        }
        result
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
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

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageStore").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The layers of the database that are on the disk. The others are forgotten, so that none of
/// their numbers is ever taken for a layer that has nothing to do with it.
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
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(io_error("close to others", path))
}

fn sync_filesystem(path: &Path) -> Result<(), Error> {
    let failed = io_error("sync the file system of", path);
    let directory = fs::File::open(path).map_err(&failed)?;
    rustix::fs::syncfs(&directory).map_err(|errno| failed(errno.into()))
}
