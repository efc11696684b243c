//! Import of archives of both kinds.

use serde_json::{Value, json};

use super::*;
use crate::{
    image::{platform::Platform, tar::tests::Builder},
    kind::Kind,
};

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({ "os": "linux", "architecture": Platform::here().architecture,
            "rootfs": { "type": "layers", "diff_ids": diff_ids } })
    .to_string()
    .into_bytes()
}

fn layers() -> (Vec<u8>, Vec<u8>) {
    (
        Builder::default().directory("etc", 0o700, (1, 1)).end(),
        Builder::default().file("etc/x", b"1").end(),
    )
}

#[test]
fn docker_archives() {
    if !is_root() {
        return;
    }
    let (first, second) = layers();
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["busybox:1", "q.io/a/b:2"],
                            "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"] },
                          { "Config": "d.json", "RepoTags": null, "Layers": ["1/layer.tar"] }]);
    let mut builder = Builder::default();
    builder
        .file("1/layer.tar", &first)
        .file("2/layer.tar", &second)
        .symlink("3/layer.tar", "../1/layer.tar")
        .file("c.json", &config(&[&first, &second, &first]))
        .file("d.json", &config(&[&first]))
        .file("manifest.json", manifest.to_string().as_bytes());
    let plain = builder.end();
    for bytes in [
        plain.clone(),
        registry::gzip(plain.clone()).stored,
        zstd::encode_all(&plain[..], 1).unwrap(),
    ] {
        let (directory, store) = store();
        let archive = directory.path().join("archive");
        fs::write(&archive, &bytes).unwrap();
        let images = here(|| store.import(&archive)).unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images[0].repo_tags, ["docker.io/library/busybox:1", "q.io/a/b:2"]);
        assert!(images[1].repo_tags.is_empty());
        assert_eq!(store.find("busybox:1").unwrap().id, images[0].id);
        assert_eq!(store.layers(&images[0].id).unwrap().len(), 2);
        assert_eq!(here(|| store.import(&archive)).unwrap().len(), 2);
        for image in images {
            here(|| store.remove(&image.id.to_string())).unwrap();
        }
        assert_eq!(store.fs_usage().inodes_used, 0);
    }
}

pub(super) fn layout(change: impl Fn(&mut Value)) -> Vec<u8> {
    let (first, second) = layers();
    let mut builder = Builder::default();
    let mut blob = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        builder
            .pax(&[("path", format!("./blobs/sha256/{}", digest.hex()).as_bytes())])
            .file("x", bytes);
        json!({ "digest": digest, "size": bytes.len() })
    };
    let stored = registry::gzip(first.clone()).stored;
    let manifest = json!({ "schemaVersion": 2, "config": blob(&config(&[&first, &second])),
                           "layers": [blob(&stored), blob(&second)] });
    let mut entry = blob(manifest.to_string().as_bytes());
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest",
                                   "io.containerd.image.name": "q.io/a/b:3" });
    let mut index = json!({ "schemaVersion": 2, "manifests": [entry] });
    change(&mut index);
    builder.file("index.json", index.to_string().as_bytes());
    builder.end()
}

#[test]
fn oci_layouts() {
    if !is_root() {
        return;
    }
    let (directory, store) = store();
    let archive = directory.path().join("archive");
    fs::write(&archive, layout(|_| {})).unwrap();
    let images = here(|| store.import(&archive)).unwrap();
    assert_eq!(images[0].repo_tags, ["q.io/a/b:3"]);
    assert_eq!(images[0].repo_digests.len(), 1);
    assert_eq!(store.find("q.io/a/b:3").unwrap().id, images[0].id);
}

#[test]
fn wrong_archives_leave_nothing() {
    if !is_root() {
        return;
    }
    let (directory, store) = store();
    let archive = directory.path().join("archive");
    let foreign = layout(|index| {
        index["manifests"][0]["platform"] = json!({ "os": "linux", "architecture": "s390x" });
    });
    let missing = layout(|index| index["manifests"][0]["digest"] = json!(Digest::of(b"?")));
    let empty = Builder::default().file("README", b"").end();
    let whole = layout(|_| {});
    let mut corrupt = whole.clone();
    let position = corrupt.windows(5).position(|w| w == b"etc/x").unwrap();
    corrupt[position + 512] = b'2';
    for (bytes, kind) in [
        (foreign, Kind::NotFound),
        (missing, Kind::InvalidArgument),
        (empty, Kind::InvalidArgument),
        (whole[..whole.len() - 2000].to_vec(), Kind::InvalidArgument),
        (b"not a tar".repeat(100), Kind::InvalidArgument),
        (corrupt, Kind::DataLoss),
    ] {
        fs::write(&archive, bytes).unwrap();
        let error = here(|| store.import(&archive)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(store.fs_usage().inodes_used, 0);
    }
    assert_eq!(
        here(|| store.import(Path::new("/dev/null"))).unwrap_err().kind(),
        Kind::InvalidArgument
    );
}
