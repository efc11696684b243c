//! A file that hangs holds up the one who waits for it, and nobody else.

use super::{
    registry::{Registry, gzip},
    *,
};
use crate::image::tar::tests::Builder;

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_hangs_leaves_lists_and_figures_to_others() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    registry.push("1", &[gzip(Builder::default().file("x", b"1").end())]);
    let id = store.pull(&registry.reference("a:1"), None).await.unwrap();
    assert!(store.holders().unwrap().is_empty());
    // Who opens it for writing waits for a reader.
    let pipe = directory.path().join("images/holders/container~");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let holding = tokio::spawn({
        let store = store.clone();
        async move { store.aside(move |store| store.hold(&id, "container")).await }
    });
    until("it is held in memory", || store.holders().unwrap() == ["container"]).await;
    assert_eq!(store.list().len(), 1);
    assert!(store.fs_usage().used_bytes > 0 && store.metrics().contains("images 1"));
    assert_eq!(store.layers(&id).unwrap().len(), 1);
    assert!(!holding.is_finished());
    let reader = tokio::task::spawn_blocking(move || fs::read(pipe));
    assert!(holding.await.unwrap().is_ok());
    assert!(reader.await.unwrap().unwrap().starts_with(b"{"));
}
