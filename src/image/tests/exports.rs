//! Exports, and what other stores make of them.

use super::{
    registry::{Pushed, Registry, gzip},
    *,
};
use crate::{image::tar::tests::Builder, kind::Kind};

fn layers() -> Vec<Pushed> {
    let first = Builder::default()
        .directory("etc", 0o755, (0, 0))
        .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")
        .file("odd", &[7; 1025])
        .symlink("link", "etc")
        .end();
    let second = Builder::default().file("etc/.wh.passwd", b"").file("more", b"more").end();
    vec![gzip(first), gzip(second.clone()), Pushed { stored: second.clone(), plain: second }]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_image_under_its_own_id() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    registry.push("1", &layers());
    let names = [registry.reference("a:1"), registry.reference("b:1")];
    let id = store.pull(&names[0], None).await.unwrap();
    store.pull(&names[1], None).await.unwrap();
    let export = |store: &ImageStore, name: &str| {
        let mut archive = Vec::new();
        store.export(&[name.to_owned()], &mut archive).map(|()| archive)
    };
    let archive = export(&store, &id.0.hex()[..12]).unwrap();

    let (other_directory, other) = super::store();
    let file = other_directory.path().join("export.tar");
    fs::write(&file, &archive).unwrap();
    let imported = here(|| other.import(&file)).unwrap();
    assert!(imported.iter().all(|image| image.id == id), "{imported:?}");
    let image = other.find(&names[0]).unwrap();
    assert_eq!((image.id, image.repo_tags.as_slice()), (id, &names[..]));
    assert_eq!(other.layers(&id).unwrap().len(), 2, "the same layer twice is there once");
    assert_eq!(export(&other, &names[1]).unwrap(), archive, "byte for byte");

    assert_eq!(export(&store, "unknown").unwrap_err().kind(), Kind::NotFound);
    let lowest = store.layers(&id).unwrap().pop().unwrap();
    fs::write(lowest.join("odd"), [8; 1025]).unwrap();
    assert_eq!(export(&store, &names[0]).unwrap_err().kind(), Kind::DataLoss);
}
