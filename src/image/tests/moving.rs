//! Images that a node has already: of a containerd, and in the directory of an OCI layout.

use std::process::Command;

use super::{
    containerd::{Containerd, lower, upper},
    registry::{self, Registry},
    *,
};
use crate::{image::Origin, kind::Kind};

fn origin(root: &Path, namespace: &str) -> Origin {
    Origin::Containerd { root: root.to_owned(), namespace: namespace.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_a_containerd_are_taken_over() {
    if !is_root() {
        return;
    }
    let Some(mut containerd) = Containerd::start() else { return };
    let registry = Registry::start();
    registry.push("whole", &[registry::gzip(lower()), registry::gzip(upper())]);
    let other = registry::gzip(registry::noise_bytes(1 << 10));
    let broken = registry.push("broken", &[registry::gzip(lower()), other]);
    let (whole, half) = (registry.reference("a:whole"), registry.reference("a:broken"));
    // Many names let the database have more than one page.
    for reference in [&whole, &half] {
        // What is no archive cannot be unpacked there, but is fetched.
        let pull = ["-n", "k8s.io", "content", "fetch", "--plain-http", reference];
        assert!(containerd.ctr(&pull));
    }
    for number in 0..100 {
        let name = format!("example.com/many/names/{number:03}:1");
        assert!(containerd.ctr(&["-n", "k8s.io", "images", "tag", &whole, &name]));
    }
    let root = containerd.directory.path().join("root");
    let (_directory, store) = store();
    let import = |origin: Origin| here(|| store.import_from(&origin));

    let error = import(origin(&root, "k8s.io")).unwrap_err();
    assert!(error.to_string().contains("stop containerd first"), "{error}");
    containerd.stop();

    let layer = broken["layers"][1]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let blobs = root.join("io.containerd.content.v1.content/blobs/sha256");
    fs::remove_file(blobs.join(layer)).unwrap();
    let error = import(origin(&root, "moby")).unwrap_err();
    assert!(
        error.to_string().contains("there is") && error.to_string().contains("k8s.io"),
        "{error}"
    );

    let imported = import(origin(&root, "k8s.io")).unwrap();
    assert_eq!(imported.images.len(), 1);
    let image = &imported.images[0];
    assert_eq!(image.repo_tags.len(), 101);
    assert!(image.repo_tags.contains(&whole), "{:?}", image.repo_tags);
    assert!(image.repo_digests.iter().any(|name| name.contains("@sha256:")));
    let [(name, reason)] = &imported.passed_over[..] else {
        panic!("{:?}", imported.passed_over);
    };
    assert!(name == &half && reason.contains(layer), "{name}: {reason}");
    // The very image that a pull brings.
    let found = store.find(&whole).unwrap();
    assert_eq!(store.pull(&whole, None).await.unwrap(), found.id);

    // Without a word of what it is.
    let again = import(Origin::Any(root)).unwrap();
    assert_eq!(again.images.len(), 1);
}

#[test]
fn directories_of_other_kinds_are_told() {
    let (directory, store) = store();
    let import = |origin: Origin| here(|| store.import_from(&origin)).unwrap_err();
    let path = directory.path().to_owned();
    for (origin, expected) in [
        (Origin::Any(path.clone()), "neither"),
        (Origin::Oci(path.clone()), "no index.json"),
        (Origin::DockerArchive(path.clone()), "no manifest.json"),
        (origin(&path, "k8s.io"), "/var/lib/containerd"),
    ] {
        let error = import(origin);
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let database = path.join("io.containerd.metadata.v1.bolt");
    fs::create_dir(&database).unwrap();
    fs::write(database.join("meta.db"), vec![7; 8192]).unwrap();
    fs::create_dir(path.join("io.containerd.content.v1.content")).unwrap();
    let error = import(Origin::Any(path));
    assert!(error.to_string().contains("no database of bbolt"), "{error}");
}

#[test]
fn the_directory_of_a_layout() {
    if !is_root() {
        return;
    }
    let (directory, store) = store();
    let archive = directory.path().join("archive");
    fs::write(&archive, super::imports::layout(|_| {})).unwrap();
    let unpacked = directory.path().join("layout");
    fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&unpacked).status();
    assert!(tar.unwrap().success());
    let imported = here(|| store.import_from(&Origin::Oci(unpacked.clone()))).unwrap();
    assert_eq!(imported.images.len(), 1);
    assert_eq!(here(|| store.import(&archive)).unwrap()[0].id, imported.images[0].id);

    // A name that leads elsewhere leads nowhere.
    let id = imported.images[0].id.to_string();
    here(|| store.remove(&id)).unwrap();
    let index = unpacked.join("index.json");
    fs::rename(&index, directory.path().join("index.json")).unwrap();
    std::os::unix::fs::symlink("../index.json", &index).unwrap();
    let error = here(|| store.import_from(&Origin::Oci(unpacked))).unwrap_err();
    assert!(error.to_string().contains("no index.json"), "{error}");
}
