//! Kills a process that pulls, at many moments, and looks at what it leaves.

use std::process::{Child, Command, Stdio};

use super::{registry::Registry, *};
use crate::image::tar::tests::Builder;

pub(super) const ROOT: &str = "CRIQUET_TEST_KILL_ROOT";
pub(super) const REFERENCE: &str = "CRIQUET_TEST_KILL_REFERENCE";

/// Not a test of its own: what the killed process runs.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let (Ok(root), Ok(reference)) = (std::env::var(ROOT), std::env::var(REFERENCE)) else { return };
    let store = Arc::new(open(Path::new(&root)));
    store.pull(&reference, None).await.unwrap();
    here(|| store.remove(&reference)).unwrap();
}

/// A process that pulls the image and removes it, to be killed.
pub(super) fn spawn(root: &Path, reference: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "image::tests::kills::child"])
        .env(ROOT, root)
        .env(REFERENCE, reference)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn layer(name: &str) -> registry::Pushed {
    let mut builder = Builder::default();
    for index in 0..300 {
        builder.file(&format!("{name}/{}/{index}", index % 7), &vec![index as u8; 3000]);
    }
    registry::gzip(builder.end())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull_leaves_a_clean_store() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    registry.push("1", &["a", "b", "c", "d", "e"].map(layer));
    let reference = registry.reference("a:1");
    let (directory, first) = store();
    drop(first);
    for step in 0..20 {
        let mut child = spawn(directory.path(), &reference);
        tokio::time::sleep(Duration::from_millis(step * 25)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(directory.path());
        let names = fs::read_dir(directory.path().join("images/layers")).unwrap();
        let directories = names.flatten().filter(|entry| entry.path().is_dir()).count();
        assert!(directories <= 5, "step {step}: {directories} layers");
        let trash = directory.path().join("images/tmp");
        until("an empty trash", || fs::read_dir(&trash).unwrap().next().is_none()).await;
        let usage = store.fs_usage();
        assert_eq!(usage.inodes_used, directories as u64 * 309, "step {step}");
        for image in store.list() {
            assert_eq!(image.repo_tags, std::slice::from_ref(&reference));
            assert_eq!(store.layers(&image.id).unwrap().len(), 5);
        }
    }
    let store = Arc::new(open(directory.path()));
    let id = store.pull(&reference, None).await.unwrap();
    for (layer, name) in store.layers(&id).unwrap().iter().zip(["e", "d", "c", "b", "a"]) {
        for index in 0..300 {
            let content = fs::read(layer.join(format!("{name}/{}/{index}", index % 7))).unwrap();
            assert_eq!(content, vec![index as u8; 3000]);
        }
    }
    assert_eq!(fs::read_dir(directory.path().join("images/layers")).unwrap().count(), 5);
}
