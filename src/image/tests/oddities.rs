//! Images that other runtimes take: of the wrong platform or of none, of two types at once, with
//! roots of their own.

use serde_json::{Value, json};

use super::{
    registry::{Pushed, Registry, gzip},
    *,
};
use crate::{
    image::{platform::Platform, tar::tests::Builder},
    kind::Kind,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn layer(name: &str) -> Pushed {
    gzip(Builder::default().file(name, b"1").end())
}

/// Pushes an image whose configuration and manifest are changed; gives its descriptor.
fn push(
    registry: &Registry,
    tag: &str,
    change_config: impl Fn(&mut Value),
    change: impl Fn(&mut Value),
) -> Value {
    let mut manifest = registry.push(tag, &[layer(tag)]);
    let name = format!("blobs/{}", manifest["config"]["digest"].as_str().unwrap());
    let mut config: Value = serde_json::from_slice(&registry.content(&name)).unwrap();
    change_config(&mut config);
    let media_type = manifest["config"]["mediaType"].clone();
    manifest["config"] = registry.blob(config.to_string().as_bytes());
    manifest["config"]["mediaType"] = media_type;
    change(&mut manifest);
    let digest = registry.manifest(tag, MANIFEST, &manifest);
    json!({ "mediaType": MANIFEST, "digest": digest, "size": 1 })
}

fn index(registry: &Registry, tag: &str, entries: &[Value]) -> Value {
    let document = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let digest = registry.manifest(tag, INDEX, &document);
    json!({ "mediaType": INDEX, "digest": digest, "size": 1 })
}

fn of(architecture: &'static str) -> impl Fn(&mut Value) {
    move |config| config["architecture"] = json!(architecture)
}

fn unchanged(_: &mut Value) {}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_named_by_itself_is_taken_whatever_its_platform() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    push(&registry, "other", of("s390x"), unchanged);
    push(&registry, "partial", |config| config["os"] = json!(""), unchanged);
    push(&registry, "none", |config| config["architecture"] = Value::Null, unchanged);
    for tag in ["other", "partial", "none"] {
        store.pull(&registry.reference(&format!("a:{tag}")), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_the_right_child_however_it_is_found() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    let foreign = push(&registry, "foreign", of("s390x"), unchanged);
    let own = push(&registry, "own", |config| config["x"] = json!(1), unchanged);
    let own_id = store.pull(&registry.reference("a:own"), None).await.unwrap();
    let here = Platform::here();
    let mut named = own.clone();
    named["platform"] = json!({ "os": here.os, "architecture": here.architecture });
    let mut wrongly = foreign.clone();
    wrongly["platform"] = named["platform"].clone();

    let inner = [
        index(&registry, "inner1", std::slice::from_ref(&foreign)),
        index(&registry, "inner2", std::slice::from_ref(&named)),
    ];
    index(&registry, "nested", &inner);
    index(&registry, "unsaid", &[foreign.clone(), own.clone()]);
    index(&registry, "said", &[own, foreign.clone(), named]);
    for tag in ["nested", "unsaid", "said"] {
        let id = store.pull(&registry.reference(&format!("a:{tag}")), None).await.unwrap();
        assert_eq!(id, own_id, "{tag}");
    }
    // What an index says goes before what the configuration says.
    index(&registry, "wrongly", &[wrongly]);
    store.pull(&registry.reference("a:wrongly"), None).await.unwrap();
    index(&registry, "nothing", &[foreign]);
    let error = store.pull(&registry.reference("a:nothing"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains("offers linux/s390x;"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_read_as_go_reads_them() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    let typed = |manifest: &mut Value| manifest["artifactType"] = json!("application/vnd.acme");
    push(&registry, "typed", unchanged, typed);
    push(&registry, "nulls", unchanged, |manifest| {
        manifest["annotations"] = json!({ "a": null, "b": "c" });
        manifest["layers"][0]["size"] = json!(-1);
    });
    push(&registry, "docker", unchanged, |manifest| {
        // It is sent with the type of the other name.
        manifest["mediaType"] = json!(DOCKER_MANIFEST);
    });
    for tag in ["typed", "nulls", "docker"] {
        let id = store.pull(&registry.reference(&format!("a:{tag}")), None).await.unwrap();
        let image = store.find(&id.to_string()).unwrap();
        assert!(!image.is_artifact, "{tag}");
        assert!(store.has_path(&id, Path::new(tag)).unwrap());
    }
    // Of a key that comes twice the last counts.
    let once = push(&registry, "once", unchanged, unchanged);
    let name = format!("manifests/{}", once["digest"].as_str().unwrap());
    let text = String::from_utf8(registry.content(&name)).unwrap();
    let twice = text.replacen('{', "{\"config\":{\"digest\":\"nothing\"},", 1);
    registry.store("manifests/twice", twice.as_bytes());
    let id = store.pull(&registry.reference("a:twice"), None).await.unwrap();
    assert_eq!(store.pull(&registry.reference("a:once"), None).await.unwrap(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_directory_of_an_image_has_its_owner() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    let rooted = gzip(Builder::default().directory("./", 0o2775, (1000, 1001)).end());
    registry.push("1", &[rooted, layer("above")]);
    registry.push("2", &[layer("alone")]);
    let own = store.pull(&registry.reference("a:1"), None).await.unwrap();
    let root = store.root(&own).unwrap();
    assert_eq!((root.uid, root.gid, root.mode), (1000, 1001, 0o2775), "by the layer below");
    let plain = store.pull(&registry.reference("a:2"), None).await.unwrap();
    assert_eq!(store.root(&plain).unwrap(), RootOwner::default());
}
