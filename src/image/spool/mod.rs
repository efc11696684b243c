//! Compressed bytes of large layers on their way: one file for a blob, filled by several
//! connections at once and read from the front while it grows. What a broken pull or a
//! killed daemon leaves is taken up by the next attempt.
//!
//! Nothing here waits for the disk. A killed daemon's writes are in the page cache; after a
//! reboot they need not be on the disk, so that spools live as long as the boot that their
//! directory is named after. Whatever they hold, the layer's digest is verified anyway.

mod chunks;
mod file;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
    time::Instant,
};

use super::{
    Digest, Error,
    layers::{PATIENCE, io_error},
};
use chunks::Chunks;
pub(super) use file::Spool;
use file::State;

/// Beside the content: which of its chunks are there.
const MAP: &str = "chunks";

/// All spools of a store.
pub(super) struct Spools {
    directory: PathBuf,
    // A short critical section: look-ups and counts.
    table: Mutex<BTreeMap<String, Entry>>,
}

enum Entry {
    InUse(Weak<Spool>),
    /// Waits until then for the next attempt.
    Waiting {
        until: Instant,
        bytes: u64,
    },
}

impl Spools {
    /// Takes over the spools of this boot beneath `root`, and removes all others.
    pub(super) fn open(root: &Path, boot: &str) -> Result<Arc<Self>, Error> {
        let directory = root.join(boot);
        if let Err(error) = fs::create_dir_all(&directory) {
            // Large layers cannot be pulled then, and all else goes on.
            tracing::warn!(path = %directory.display(), %error, "there is no place for spools");
            return Ok(Arc::new(Self { directory, table: Mutex::default() }));
        }
        let failed = io_error("list", root);
        for entry in fs::read_dir(root).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            if path != directory
                && let Err(error) = crate::sys::tree::remove_at(&path)
            {
                tracing::warn!(path = %path.display(), %error, "old spools are left");
            }
        }
        let spools = Self { directory, table: Mutex::default() };
        spools.take_over()?;
        Ok(Arc::new(spools))
    }

    /// The spool of a blob of `size` bytes, or nothing when another task has it.
    pub(super) fn take(
        self: &Arc<Self>,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<Arc<Spool>>, Error> {
        let name = format!("{}-{size}", digest.to_string().replace(':', "-"));
        {
            let mut table = self.lock();
            if let Some(Entry::InUse(_)) = table.get(&name) {
                return Ok(None);
            }
            table.insert(name.clone(), Entry::InUse(Weak::new()));
        }
        let opened = self.open_files(&name, size).inspect_err(|_| self.let_go(&name, 0, false));
        let (content, map, chunks) =
            opened.map_err(io_error("open", &self.directory.join(&name)))?;
        let spool = Arc::new(Spool {
            spools: self.clone(),
            name: name.clone(),
            content,
            map,
            size,
            resumed: chunks.total(),
            state: Mutex::new(State { chunks, is_ended: false }),
            grown: Condvar::new(),
            is_discarded: AtomicBool::new(false),
        });
        self.lock().insert(name, Entry::InUse(Arc::downgrade(&spool)));
        Ok(Some(spool))
    }

    fn open_files(&self, name: &str, size: u64) -> io::Result<(File, File, Chunks)> {
        let path = self.directory.join(name);
        let open = |path: &Path| {
            File::options().create(true).truncate(false).read(true).write(true).open(path)
        };
        let content = open(&path)?;
        let map = path.with_extension(MAP);
        let marks = fs::read(&map).or_else(absent_is_empty)?;
        let chunks = Chunks::new(size, marks.into_iter().map(|mark| mark == 1));
        Ok((content, open(&map)?, chunks))
    }

    /// Removes what no attempt has come back for.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        let now = Instant::now();
        let mut over = Vec::new();
        self.lock().retain(|name, entry| {
            let is_over = matches!(entry, Entry::Waiting { until, .. } if *until <= now);
            if is_over {
                over.push(name.clone());
            }
            !is_over
        });
        over.iter().try_for_each(|name| self.remove(name))
    }

    /// Bytes of all spools.
    pub(super) fn usage(&self) -> u64 {
        let mut waiting = 0;
        let mut in_use = Vec::new();
        for entry in self.lock().values() {
            match entry {
                Entry::Waiting { bytes, .. } => waiting += bytes,
                Entry::InUse(spool) => in_use.extend(spool.upgrade()),
            }
        }
        // The table is free again: a spool that ends here has to enter itself.
        waiting + in_use.iter().map(|spool| spool.bytes()).sum::<u64>()
    }

    /// Puts every spool of an earlier daemon into the table, each with its patience anew.
    fn take_over(&self) -> Result<(), Error> {
        let failed = io_error("list", &self.directory);
        for entry in fs::read_dir(&self.directory).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let is_map = path.extension().is_some_and(|extension| extension == MAP);
            if is_map && path.with_extension("").exists() {
                continue;
            }
            if is_map || !path.with_extension(MAP).exists() {
                // Half made, or half removed.
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "half a spool is left");
                }
                continue;
            }
            let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            self.let_go(name, bytes, false);
        }
        Ok(())
    }

    fn let_go(&self, name: &str, bytes: u64, is_removed: bool) {
        let mut table = self.lock();
        if is_removed {
            table.remove(name);
        } else {
            let until = Instant::now() + PATIENCE;
            table.insert(name.to_owned(), Entry::Waiting { until, bytes });
        }
    }

    /// The map goes first: a content without a map is taken for rubbish.
    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        for path in [path.with_extension(MAP), path] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn absent_is_empty(error: io::Error) -> io::Result<Vec<u8>> {
    if error.kind() == io::ErrorKind::NotFound { Ok(Vec::new()) } else { Err(error) }
}
