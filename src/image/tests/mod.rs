//! Tests of the store as a whole, against a registry in this process.

mod admission;
mod artifacts;
mod broken;
mod containerd;
mod exports;
mod fixtures;
mod full;
mod hung;
mod imports;
mod kills;
mod large;
mod moving;
mod nodes;
mod oddities;
mod power_cut;
mod pulls;
pub(super) mod registry;
mod strangers;
mod tls;

use std::{fs, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::{unpack::tests::is_root, *};
use crate::store::{Database, Durability};

fn open(root: &Path) -> ImageStore {
    open_with(root, |_| {})
}

fn open_with(root: &Path, change: impl Fn(&mut Options)) -> ImageStore {
    let database = here(|| Database::open(&root.join("state.db"), Durability::Power)).unwrap();
    let mut options = Options {
        certs_dir: root.join("certs.d"),
        progress_timeout: Duration::from_secs(5),
        ..Options::new(root.join("images"))
    };
    change(&mut options);
    let store = here(|| ImageStore::open(options, Arc::new(database))).unwrap();
    here(|| store.collect_garbage()).unwrap();
    store
}

/// Waits for the disk on the thread of the test.
fn here<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => tokio::task::block_in_place(work),
        Err(_) => work(),
    }
}

fn store() -> (TempDir, Arc<ImageStore>) {
    store_with(|_| {})
}

fn store_with(change: impl Fn(&mut Options)) -> (TempDir, Arc<ImageStore>) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("certs.d")).unwrap();
    let store = Arc::new(open_with(directory.path(), change));
    (directory, store)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect(what);
}
