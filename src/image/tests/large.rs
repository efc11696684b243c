//! Large layers: ranges, resumption, and what is left of their spools.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    kills,
    registry::{Pushed, Registry, Reply, noise_bytes},
    *,
};
use crate::{image::tar::tests::Builder, kind::Kind};

const LENGTH: usize = 9 << 20;

/// A layer that goes through a spool, in three ranges.
fn large() -> Pushed {
    let plain = Builder::default().file("large", &noise_bytes(LENGTH)).end();
    Pushed { stored: plain.clone(), plain }
}

fn spools(directory: &TempDir) -> Vec<std::path::PathBuf> {
    let boots = fs::read_dir(directory.path().join("images/spool")).unwrap();
    boots
        .flatten()
        .flat_map(|boot| fs::read_dir(boot.path()).unwrap())
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

fn chunks_there(directory: &TempDir) -> usize {
    let maps = spools(directory).into_iter().filter(|path| path.extension().is_some());
    maps.flat_map(|path| fs::read(path).unwrap_or_default()).filter(|mark| *mark == 1).count()
}

fn assert_whole(store: &ImageStore, id: &ImageId) {
    let content = fs::read(store.layers(id).unwrap()[0].join("large")).unwrap();
    assert!(content == noise_bytes(LENGTH));
}

fn figure(store: &ImageStore, name: &str) -> u64 {
    let text = store.metrics();
    let line =
        text.lines().find_map(|line| line.strip_prefix("criquet_image_")?.strip_prefix(name));
    line.expect(name).trim().parse().unwrap()
}

/// The ranges that were asked for of blobs, in the order of their starts.
fn ranges(registry: &Registry, digest: &str) -> Vec<String> {
    let log = registry.log();
    let requests = log.iter().filter(|request| request.path.ends_with(digest));
    let mut ranges: Vec<String> = requests.map(|r| r.header("range").to_owned()).collect();
    ranges.sort_by_key(|range| {
        range.trim_start_matches("bytes=").split('-').next().and_then(|n| n.parse::<u64>().ok())
    });
    ranges
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_layer_comes_in_ranges() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let layer = large();
    let (digest, size) = (Digest::of(&layer.stored).to_string(), layer.stored.len());
    registry.push("1", &[layer]);
    let id = store.pull(&registry.reference("a:1"), None).await.unwrap();
    assert_whole(&store, &id);
    let expected = [
        "bytes=0-4194303".to_owned(),
        "bytes=4194304-8388607".to_owned(),
        "bytes=8388608-".to_owned(),
    ];
    assert_eq!(ranges(&registry, &digest), expected);
    assert!(spools(&directory).is_empty(), "a compressed layer is not kept");
    assert_eq!(figure(&store, "fetched_bytes_total"), size as u64);
    assert_eq!(figure(&store, "pulls_total{result=\"success\"}"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_sends_one_stream() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let layer = large();
    let (digest, whole) = (Digest::of(&layer.stored).to_string(), layer.stored.clone());
    registry.push("1", &[layer]);
    let name = digest.clone();
    registry.on_request(move |request, _| {
        let is_layer = request.path.ends_with(&name);
        is_layer.then(|| Reply { body: whole.clone(), ..Reply::status(200) })
    });
    let id = store.pull(&registry.reference("a:1"), None).await.unwrap();
    assert_whole(&store, &id);
    assert!(ranges(&registry, &digest).contains(&String::new()), "the whole was asked for");
    assert!(spools(&directory).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_break_go_on_where_they_broke() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    let layer = large();
    let digest = Digest::of(&layer.stored).to_string();
    registry.push("1", &[layer]);
    let name = digest.clone();
    registry.on_request(move |request, earlier| {
        let is_first = request.path.ends_with(&name) && earlier < 3;
        is_first.then(|| Reply { cut: Some(1_000_000), ..Reply::default() })
    });
    let id = store.pull(&registry.reference("a:1"), None).await.unwrap();
    assert_whole(&store, &id);
    let asked = ranges(&registry, &digest);
    assert_eq!(asked.len(), 6, "each of three ranges broke once: {asked:?}");
    assert!(asked.contains(&"bytes=5194304-8388607".to_owned()), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_goes_on_where_it_was() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let layer = large();
    let (digest, size) = (Digest::of(&layer.stored).to_string(), layer.stored.len() as u64);
    registry.push("1", &[layer]);
    let reference = registry.reference("a:1");
    let (directory, first) = store();
    drop(first);
    let name = digest.clone();
    registry.on_request(move |request, _| {
        let is_layer = request.path.ends_with(&name);
        is_layer.then(|| Reply { cut: Some(3 << 20), stall: true, ..Reply::default() })
    });
    let mut child = kills::spawn(directory.path(), &reference);
    until("chunks of two ranges", || chunks_there(&directory) >= 4).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let there = chunks_there(&directory);
    registry.on_request(|_, _| None);
    let before = registry.log().len();
    let store = Arc::new(open(directory.path()));
    assert_eq!(store.fs_usage().used_bytes >> 20, 9, "a spool's file counts until it is taken up");
    let id = store.pull(&reference, None).await.unwrap();
    assert_whole(&store, &id);
    let asked = registry.log().split_off(before);
    let asked: Vec<&str> =
        asked.iter().filter(|r| r.path.ends_with(&digest)).map(|r| r.header("range")).collect();
    assert!(!asked.iter().any(|range| range.is_empty()), "{asked:?}");
    let resumed = figure(&store, "resumed_bytes_total");
    assert!(resumed > (there as u64 - 1) << 20, "all whole chunks, of which one is short");
    assert_eq!(resumed + figure(&store, "fetched_bytes_total"), size);
    assert!(spools(&directory).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_leftovers_are_thrown_away_once() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let layer = large();
    let digest = Digest::of(&layer.stored);
    let size = layer.stored.len() as u64;
    registry.push("1", &[layer]);
    let spool = store.records.spools.take(&digest, size).unwrap().unwrap();
    spool.write(0, 0, &[vec![7; 2 << 20].into()]).unwrap();
    drop(spool);
    let id = store.pull(&registry.reference("a:1"), None).await.unwrap();
    assert_whole(&store, &id);
    assert!(spools(&directory).is_empty());

    // What the registry itself sends wrong is fetched once, and nothing is left.
    store.remove(&registry.reference("a:1")).unwrap();
    let before = registry.log().len();
    let name = digest.to_string();
    registry.on_request(move |request, _| {
        let is_layer = request.path.ends_with(&name);
        is_layer.then(|| Reply { body: vec![7; size as usize], ..Reply::status(200) })
    });
    let error = store.pull(&registry.reference("a:1"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss, "{error}");
    let asked = registry.log().split_off(before);
    let is_whole = |request: &&registry::Request| {
        request.path.ends_with(&digest.to_string()) && request.header("range").is_empty()
    };
    assert_eq!(asked.iter().filter(is_whole).count(), 1);
    assert!(spools(&directory).is_empty());
    assert_eq!(store.fs_usage().used_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_spool_needs_no_registry_and_one_without_room_says_so() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let layer = large();
    let (digest, size) = (Digest::of(&layer.stored), layer.stored.len() as u64);
    let stored = layer.stored.clone();
    registry.push("1", &[layer]);
    let reference = registry.reference("a:1");
    let spool = store.records.spools.take(&digest, size).unwrap().unwrap();
    spool.write(0, 0, &[stored.into()]).unwrap();
    drop(spool);
    let id = store.pull(&reference, None).await.unwrap();
    assert_whole(&store, &id);
    assert!(ranges(&registry, &digest.to_string()).is_empty());
    store.remove(&reference).unwrap();

    let boots = fs::read_dir(directory.path().join("images/spool")).unwrap();
    let boot = boots.flatten().next().unwrap().path();
    let name = format!("sha256-{}-{size}", digest.hex());
    std::os::unix::fs::symlink("/dev/full", boot.join(name)).unwrap();
    let error = store.pull(&reference, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("make room on the file system of the image store"), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_layer_that_nobody_waits_for_ends_and_is_taken_up() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let layer = large();
    let name = Digest::of(&layer.stored).to_string();
    registry.push("1", &[layer]);
    let stalls = Arc::new(AtomicBool::new(true));
    let hook = stalls.clone();
    registry.on_request(move |request, _| {
        let stall = hook.load(Ordering::SeqCst) && request.path.ends_with(&name);
        stall.then(|| Reply { cut: Some(3 << 20), stall: true, ..Reply::default() })
    });
    let reference = registry.reference("a:1");
    let (pulling, name) = (store.clone(), reference.clone());
    let pull = tokio::spawn(async move { pulling.pull(&name, None).await });
    until("some chunks", || chunks_there(&directory) >= 4).await;
    let progress = store.pulls();
    assert_eq!((progress.len(), progress[0].reference.as_str()), (1, reference.as_str()));
    assert_eq!(progress[0].layers[0].state, LayerState::Fetching);
    assert!(progress[0].layers[0].fetched >= 3 << 20, "one of four chunks is short");
    pull.abort();
    let layers = directory.path().join("images/layers");
    until("the end of the pull", || {
        store.pulls().is_empty() && fs::read_dir(&layers).unwrap().next().is_none()
    })
    .await;
    stalls.store(false, Ordering::SeqCst);
    let id = store.pull(&reference, None).await.unwrap();
    assert_whole(&store, &id);
    assert!(figure(&store, "resumed_bytes_total") >= 3 << 20);
    assert!(spools(&directory).is_empty());
}
