//! A disk that is full, or has become read-only: images can be removed from the one, and used
//! from the other.

use std::{io::Write, process::Command};

use super::{
    power_cut::Disk,
    registry::{Registry, gzip, noise_bytes},
    *,
};
use crate::image::tar::tests::Builder;

/// Leaves not a byte, and no room for another name in the directory.
fn fill(disk: &Path, directory: &Path) {
    let mut number = 0;
    let mut name = |directory: &Path| {
        number += 1;
        directory.join(format!("{}{number}", "n".repeat(240)))
    };
    // Until the last block of the directory has no room for a name.
    let blocks = || fs::metadata(directory).unwrap().len();
    let before = blocks();
    let mut last = name(directory);
    while blocks() == before {
        last = name(directory);
        fs::write(&last, "").unwrap();
    }
    fs::remove_file(&last).unwrap();
    let mut last_block: Vec<_> = Vec::new();
    loop {
        let path = name(directory);
        fs::write(&path, "").unwrap();
        last_block.push(path);
        if blocks() > before + 4096 {
            break;
        }
    }
    fs::remove_file(last_block.pop().unwrap()).unwrap();
    for size in [1 << 20, 4096, 1] {
        let mut file = fs::File::create(disk.join(format!("filling{size}"))).unwrap();
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    let empty = (0..).find(|n| fs::write(disk.join(format!("{n}")), [0; 5000]).is_err());
    assert!(empty.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_can_be_removed_from_a_disk_that_is_full() {
    if !is_root() {
        return;
    }
    let Some(disk) = Disk::new() else { return };
    assert!(disk.mount());
    let registry = Registry::start();
    registry.push("1", &[gzip(Builder::default().file("x", &noise_bytes(8 << 20)).end())]);
    let store = Arc::new(open(&disk.root()));
    let reference = registry.reference("a:1");
    store.pull(&reference, None).await.unwrap();
    fill(&disk.root(), &disk.root().join("images/tmp"));
    here(|| store.remove(&reference)).unwrap();
    assert!(store.list().is_empty());
    let free = || {
        let disk = rustix::fs::statvfs(disk.root()).unwrap();
        disk.f_bfree * disk.f_frsize
    };
    until("the room is there again", || free() > 7 << 20).await;
    drop(store);
    assert!(open(&disk.root()).list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_read_only_serves_what_it_has() {
    if !is_root() {
        return;
    }
    let Some(disk) = Disk::new() else { return };
    assert!(disk.mount());
    let registry = Registry::start();
    registry.push("1", &[gzip(Builder::default().file("x", b"1").end())]);
    let reference = registry.reference("a:1");
    // The database is the business of its own module, and on another disk here.
    let elsewhere = tempfile::tempdir().unwrap();
    let open = || {
        let file = elsewhere.path().join("state.db");
        let database = here(|| Database::open(&file, Durability::Power)).unwrap();
        let options = Options::new(disk.root().join("images"));
        here(|| ImageStore::open(options, Arc::new(database))).unwrap()
    };
    {
        let store = Arc::new(open());
        store.pull(&reference, None).await.unwrap();
        // What a daemon that was killed leaves behind.
        fs::create_dir(disk.root().join("images/layers/77")).unwrap();
        fs::write(disk.root().join("images/holders/half"), "").unwrap();
        fs::create_dir_all(disk.root().join("images/spool/of an earlier boot")).unwrap();
    }
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-o", how]).arg(disk.root());
        assert!(mount.status().unwrap().success());
    };
    remount("remount,ro");
    let store = open();
    let image = store.find(&reference).expect("it is served");
    assert!(store.layers(&image.id).unwrap()[0].join("x").is_file());
    drop(store);
    remount("remount,rw");
}
