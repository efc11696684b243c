//! Artifacts: pulled like images, kept file by file.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use super::{registry::Registry, *};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn blob(registry: &Registry, media_type: &str, title: Option<&str>, content: &[u8]) -> Value {
    let mut descriptor = registry.blob(content);
    descriptor["mediaType"] = json!(media_type);
    if let Some(title) = title {
        descriptor["annotations"] = json!({ "org.opencontainers.image.title": title });
    }
    descriptor
}

/// Pushes an artifact as ORAS does.
fn push(registry: &Registry, tag: &str, files: &[(Option<&str>, &[u8])]) -> Digest {
    let files = files.iter().map(|(title, content)| blob(registry, "text/plain", *title, content));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.test",
        "config": blob(registry, EMPTY, None, b"{}"),
        "layers": files.collect::<Vec<_>>(),
    });
    registry.manifest(tag, MANIFEST, &manifest)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_under_their_titles() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let large = registry::noise_bytes(9 << 20);
    let digest = push(
        &registry,
        "1",
        &[(Some("model.bin"), &large), (Some("conf/a.json"), b"{}"), (None, b"untitled")],
    );
    let (_directory, store) = store();
    let reference = registry.reference("a:1");
    let id = store.pull(&reference, None).await.unwrap();
    // There is no configuration that could be its id.
    assert_eq!(id.0, digest);
    let image = store.find(&reference).unwrap();
    assert!(image.is_artifact && image.size > 9 << 20);
    let layers = store.layers(&id).unwrap();
    let name = Digest::of(b"untitled").to_string().replace(':', "-");
    let read = |name: &str| layers.iter().find_map(|layer| fs::read(layer.join(name)).ok());
    assert!(read("model.bin").unwrap() == large);
    assert_eq!(read("conf/a.json").unwrap(), b"{}");
    assert_eq!(read(&name).unwrap(), b"untitled");
    let mode = layers.iter().find_map(|l| l.join("model.bin").symlink_metadata().ok());
    assert_eq!(mode.unwrap().mode() & 0o7777, 0o644);
    for path in ["model.bin", "conf", "conf/a.json"] {
        assert!(store.has_path(&id, Path::new(path)).unwrap(), "{path}");
    }

    // A second one shares what it has of the first.
    let before = registry.log().len();
    push(&registry, "2", &[(Some("model.bin"), &large), (Some("more"), b"more")]);
    let second = store.pull(&registry.reference("a:2"), None).await.unwrap();
    let log = registry.log().split_off(before);
    assert!(!log.iter().any(|r| r.path.contains(&Digest::of(&large).to_string())));
    here(|| store.remove(&reference)).unwrap();
    assert!(store.layers(&second).unwrap().iter().all(|layer| layer.is_dir()));
    here(|| store.remove(&second.to_string())).unwrap();
    assert_eq!(store.fs_usage().used_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_that_are_no_paths_are_refused() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    let long = "x".repeat(300);
    for (title, word) in [
        ("../outside", ".."),
        ("/etc/passwd", "relative"),
        ("a/../../b", ".."),
        ("nul\0", "relative"),
        (long.as_str(), "255"),
    ] {
        push(&registry, "bad", &[(Some(title), b"x")]);
        let error = store.pull(&registry.reference("a:bad"), None).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.kind(), crate::kind::Kind::InvalidArgument, "{error}");
    }
    push(&registry, "twice", &[(Some("x"), b"1"), (Some("x"), b"2")]);
    let error = store.pull(&registry.reference("a:twice"), None).await.unwrap_err();
    assert!(error.to_string().contains("two files"), "{error}");
    push(&registry, "none", &[]);
    let error = store.pull(&registry.reference("a:none"), None).await.unwrap_err();
    assert!(error.to_string().contains("without files"), "{error}");
    let digest = Digest::of(b"right").to_string();
    push(&registry, "lies", &[(Some("x"), b"right")]);
    registry.on_request(move |request, _| {
        let body = b"wrong".to_vec();
        let is_file = request.path.ends_with(&digest);
        is_file.then(|| registry::Reply { body, ..registry::Reply::status(200) })
    });
    let error = store.pull(&registry.reference("a:lies"), None).await.unwrap_err();
    assert_eq!(error.kind(), crate::kind::Kind::DataLoss, "{error}");
    assert_eq!(store.fs_usage().used_bytes, 0);
}
