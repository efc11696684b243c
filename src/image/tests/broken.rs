//! Layers that the disk breaks, and the archives that are made again from them.

use super::{registry::Registry, *};
use crate::image::tar::tests::Builder;

const NAMES: [&str; 2] = ["low", "high"];

fn layers() -> Vec<registry::Pushed> {
    NAMES
        .iter()
        .map(|name| registry::gzip(Builder::default().file(name, name.as_bytes()).end()))
        .collect()
}

/// A store with the image.
struct Pulled {
    _registry: Registry,
    reference: String,
    directory: TempDir,
    store: Arc<ImageStore>,
    id: ImageId,
}

impl Pulled {
    async fn new() -> Self {
        let registry = Registry::start();
        registry.push("1", &layers());
        let reference = registry.reference("a:1");
        let (directory, store) = store();
        let id = store.pull(&reference, None).await.unwrap();
        Self { _registry: registry, reference, directory, store, id }
    }
}

/// Pretends that the machine went down under the last daemon.
fn crash(root: &Path) {
    let database = Database::open(&root.join("state.db"), Durability::Power).unwrap();
    let boot = serde_json::json!({ "id": "an earlier one", "ended_orderly": false });
    database.put("image_store", "boot", &boot).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_power_cut_emptied_is_not_served() {
    if !is_root() {
        return;
    }
    let Pulled { _registry, reference, directory, store, id } = Pulled::new().await;
    let held = store.hold(&id, "container").unwrap();
    drop(store);

    fs::write(held[0].join("high"), "").unwrap();
    // Nothing is suspected after an orderly end or a daemon's death.
    assert_eq!(open(directory.path()).list().len(), 1);
    crash(directory.path());
    let store = Arc::new(open(directory.path()));
    assert!(store.is_suspicious());
    assert!(store.find(&reference).is_none(), "served with an empty file");
    // Who has it keeps it.
    assert_eq!(store.held_layers("container").unwrap(), held);

    store.pull(&reference, None).await.unwrap();
    let now = store.layers(&id).unwrap();
    assert_eq!(fs::read_to_string(now[0].join("high")).unwrap(), "high");
    assert_eq!(now[1], held[1], "the layer that is whole is not brought again");
    assert_ne!(now[0], held[0]);
    store.release("container").unwrap();
    assert!(!held[0].exists());

    // Suspicion lasts until all contents were compared, through restarts of the daemon.
    store.close().unwrap();
    drop(store);
    let store = open(directory.path());
    assert!(store.is_suspicious());
    assert!(store.verify().unwrap().is_empty());
    drop(store);
    assert!(!open(directory.path()).is_suspicious());
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_finds_a_changed_byte_and_a_restart_remembers() {
    if !is_root() {
        return;
    }
    let Pulled { _registry, reference, directory, store, id } = Pulled::new().await;
    assert!(store.verify().unwrap().is_empty());
    let held = store.hold(&id, "container").unwrap();
    fs::write(held[0].join("high"), "hiGh").unwrap();
    let removed = store.verify().unwrap();
    assert_eq!(removed.iter().map(|image| image.id).collect::<Vec<_>>(), [id]);
    assert!(store.list().is_empty());
    store.close().unwrap();
    drop(store);
    let store = Arc::new(open(directory.path()));
    assert!(!store.is_suspicious());
    store.pull(&reference, None).await.unwrap();
    assert_ne!(store.layers(&id).unwrap()[0], held[0], "the broken layer is back in service");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_layers_come_out_as_they_were() {
    if !is_root() {
        return;
    }
    // The upper layer has a file in what is a link below, and so it is moved.
    let mut low = Builder::default();
    low.directory("usr/bin", 0o755, (0, 0)).symlink("bin", "usr/bin");
    let plain = [low.end(), Builder::default().file("bin/tool", b"a tool").end()];
    let registry = Registry::start();
    registry.push("1", &plain.clone().map(registry::gzip));
    let (_directory, store) = store();
    let id = store.pull(&registry.reference("a:1"), None).await.unwrap();
    assert!(store.layers(&id).unwrap()[0].join("usr/bin/tool").is_file());
    let numbers = store.records.lock().images.record(&id).unwrap().layers.clone();
    for (number, plain) in numbers.iter().zip(&plain) {
        let mut archive = Vec::new();
        store.records.layers.rebuild(*number, &mut archive).unwrap();
        assert!(archive == *plain);
    }
    assert!(store.verify().unwrap().is_empty());
    let tool = store.layers(&id).unwrap()[0].join("usr/bin/tool");
    fs::write(tool, "a fool").unwrap();
    let error = store.records.layers.rebuild(numbers[1], &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), crate::kind::Kind::DataLoss, "{error}");
}
