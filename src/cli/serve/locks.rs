//! What two daemons must not share, and the locks that see to it.
//!
//! A lock ends with its process. A process that was killed can be held up in the kernel by a
//! file system that does not answer, and keeps its locks for as long; it will never execute
//! another instruction, so the next daemon takes them over.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Error, Settings, io_error};
use crate::{network, sys::process::Identity};

/// How long a lock of a daemon that has ended may stay.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where names are locked that are no files of ours, for all daemons of the machine.
const NAMES: &str = "/run/lock/criquet";

/// Held for as long as it lives.
#[derive(Debug)]
pub(in crate::cli) struct Lock {
    _file: File,
}

/// What a lock's file says of who has it.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    process: Identity,
    root: PathBuf,
}

/// Locks everything that belongs to one daemon alone.
pub(super) fn lock_all(settings: &Settings) -> Result<Vec<Lock>, Error> {
    let root = &settings.pods.root;
    let mut locks = vec![lock_root(root)?];
    if settings.images.root != *root {
        locks.push(lock_directory("image root", &settings.images.root, root)?);
    }
    locks.push(lock_directory("state directory", &settings.pods.state, root)?);
    let path = |path: &Path| path.to_string_lossy().into_owned();
    locks.push(lock_name("cgroup parent", &path(&settings.pods.cgroup_parent), "", root)?);
    locks.push(lock_name("netns directory", &path(&settings.pods.netns_dir), "", root)?);
    if settings.network.builtin {
        locks.extend(lock_network(&settings.network, root)?);
    }
    Ok(locks)
}

/// Locks what the built-in network has of the host, for a daemon or for a command that works
/// without one.
pub(in crate::cli) fn lock_network(
    options: &network::Options,
    root: &Path,
) -> Result<[Lock; 2], Error> {
    // Devices and tables are those of a network namespace.
    let namespace = fs::read_link("/proc/self/ns/net")
        .map_err(io_error("read", Path::new("/proc/self/ns/net")))?;
    let namespace = namespace.to_string_lossy();
    Ok([
        lock_name("bridge", &options.bridge, &namespace, root)?,
        lock_name("table", &options.name_prefix, &namespace, root)?,
    ])
}

/// Locks a root directory, for a daemon or for a command that works without one.
pub(in crate::cli) fn lock_root(root: &Path) -> Result<Lock, Error> {
    lock_directory("root", root, root)
}

fn lock_directory(what: &'static str, directory: &Path, root: &Path) -> Result<Lock, Error> {
    fs::create_dir_all(directory).map_err(io_error("create directory", directory))?;
    lock(&directory.join("lock"), root)?.ok_or_else(|| in_use(what, directory, directory))
}

fn lock_name(what: &'static str, name: &str, scope: &str, root: &Path) -> Result<Lock, Error> {
    let directory = Path::new(NAMES);
    fs::create_dir_all(directory).map_err(io_error("create directory", directory))?;
    let digest = Sha256::new().chain_update(scope).chain_update([0]).chain_update(name).finalize();
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let path = directory.join(format!("{}-{digest}", what.replace(' ', "-")));
    lock(&path, root)?.ok_or_else(|| in_use(what, Path::new(name), &path))
}

fn in_use(what: &'static str, name: &Path, lock: &Path) -> Error {
    let lock = if lock.is_dir() { lock.join("lock") } else { lock.to_owned() };
    let owner = owner_of(&lock);
    Error::InUse {
        what,
        name: name.to_owned(),
        owner: owner.map_or_else(String::new, |owner| {
            format!(" (process {}, root {})", owner.process.pid, owner.root.display())
        }),
    }
}

fn owner_of(path: &Path) -> Option<Owner> {
    let mut text = String::new();
    File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The lock of a file; none where a living process has it.
fn lock(path: &Path, root: &Path) -> Result<Option<Lock>, Error> {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(file) = try_lock(path)? {
            return sign(file, path, root).map(Some);
        }
        if owner_of(path).is_some_and(|owner| owner.process.is_over())
            && let Some(lock) = take_over(path, root)?
        {
            return Ok(Some(lock));
        }
        // A child of a daemon that was killed has it until it executes its program.
        if Instant::now() > patience {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The file, locked, if it is still the one of that name.
fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    loop {
        let open = File::options().create(true).truncate(false).read(true).write(true).open(path);
        // A disk that takes no writes has its locks all the same.
        let open = open.or_else(|error| match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => File::open(path),
            _ => Err(error),
        });
        let file = open.map_err(io_error("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(io_error("lock", path)(error.into())),
        }
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|m| m.ino()).ok();
        if inode(file.metadata()) == inode(fs::metadata(path)) {
            return Ok(Some(file));
        }
    }
}

/// Takes the lock of a process that was killed and cannot end.
fn take_over(path: &Path, root: &Path) -> Result<Option<Lock>, Error> {
    // One at a time: of two that take over, the second finds the lock of the first.
    let turn = path.with_extension("turn");
    let Some(_turn) = try_lock(&turn)? else { return Ok(None) };
    if let Some(file) = try_lock(path)? {
        return sign(file, path, root).map(Some);
    }
    // Somebody else may have taken it over meanwhile.
    let Some(owner) = owner_of(path).filter(|owner| owner.process.is_over()) else {
        return Ok(None);
    };
    tracing::warn!(
        process = owner.process.pid, lock = %path.display(),
        "an earlier daemon was killed and does not end, as a file system does not answer; its \
         lock is taken over"
    );
    let new = path.with_extension("new");
    let Some(file) = try_lock(&new)? else { return Ok(None) };
    let lock = sign(file, &new, root)?;
    fs::rename(&new, path).map_err(io_error("replace", path))?;
    Ok(Some(lock))
}

/// Says in the file who has it. A full disk has no room for that, and needs none.
fn sign(mut file: File, path: &Path, root: &Path) -> Result<Lock, Error> {
    let process = Identity::of(std::process::id()).map_err(io_error("read", path))?;
    let owner = Owner { process, root: root.to_owned() };
    let text = serde_json::to_string(&owner).unwrap_or_default();
    if let Err(error) = file.set_len(0).and_then(|()| file.write_all(text.as_bytes())) {
        tracing::debug!(lock = %path.display(), %error, "the lock is not signed");
    }
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::{Owner, lock, owner_of};
    use crate::sys::process::Identity;

    #[test]
    fn a_lock_is_had_once_and_says_by_whom() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = lock(&path, directory.path()).unwrap();
        assert!(first.is_some());
        assert_eq!(owner_of(&path).unwrap().process.pid, std::process::id());
        assert!(lock(&path, directory.path()).unwrap().is_none());
        drop(first);
        assert!(lock(&path, directory.path()).unwrap().is_some());
    }

    #[test]
    fn the_lock_of_one_that_was_killed_is_taken_over_and_that_of_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = lock(&path, directory.path()).unwrap();
        // Who holds it stands for a process that was killed: the file names one.
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Identity::of(child.id()).unwrap();
        let owner = Owner { process, root: directory.path().to_owned() };
        fs::write(&path, serde_json::to_string(&owner).unwrap()).unwrap();
        assert!(lock(&path, directory.path()).unwrap().is_none(), "it lives");
        child.kill().unwrap();
        child.wait().unwrap();
        let taken = lock(&path, directory.path()).unwrap();
        assert!(taken.is_some());
        assert!(lock(&path, directory.path()).unwrap().is_none(), "one has it now");
        drop((held, taken));
    }
}
