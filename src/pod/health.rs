//! Whether the node can take pods, as far as its own disks are concerned.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::timeout};

use super::{Pods, blocking, error::Error};

/// How long a disk may take to take one byte.
const LIMIT: Duration = Duration::from_secs(2);

/// Why containers cannot be made just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageTrouble {
    /// A directory takes no writes, and why.
    NotWritable(String),
    /// A disk does not answer.
    NotAnswering(String),
}

/// The one look at the disks that is under way; held for as long as they take.
#[derive(Default)]
pub(super) struct Probe(Arc<Mutex<()>>);

impl Pods {
    /// Whether state can be written.
    ///
    /// # Errors
    /// Why not.
    pub async fn storage(&self) -> Result<(), StorageTrouble> {
        let directories = [self.options.root.clone(), self.options.state.clone()];
        let silent = || {
            let [root, state] = directories.each_ref().map(|path| path.display());
            let words = format!("the file system of {root} or {state} does not answer");
            Err(StorageTrouble::NotAnswering(words))
        };
        // The last one still waits for its disk.
        let Ok(turn) = Arc::clone(&self.probe.0).try_lock_owned() else { return silent() };
        let probing = {
            let directories = directories.clone();
            blocking::own_files(move || {
                let _turn = turn;
                Ok::<_, Error>(directories.into_iter().find_map(write_one_byte))
            })
        };
        match timeout(LIMIT, probing).await {
            Ok(Ok(Some(words))) => Err(StorageTrouble::NotWritable(words)),
            Ok(_) => Ok(()),
            Err(_) => silent(),
        }
    }
}

fn write_one_byte(directory: PathBuf) -> Option<String> {
    let probe = directory.join(".probe");
    let written = fs::write(&probe, "x").and_then(|()| fs::remove_file(&probe));
    written.err().map(|error| format!("cannot write in {}: {error}", directory.display()))
}
