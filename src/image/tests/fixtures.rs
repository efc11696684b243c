//! Pulls from a registry that somebody else runs: `CRIQUET_TEST_REGISTRY` is its host and
//! port, `CRIQUET_TEST_IMAGES` the images, separated by commas, and `CRIQUET_TEST_CERTS`,
//! where it is set, a tree of `hosts.toml` files.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn images_of_a_real_registry() {
    let (Ok(registry), Ok(images)) =
        (std::env::var("CRIQUET_TEST_REGISTRY"), std::env::var("CRIQUET_TEST_IMAGES"))
    else {
        eprintln!("SKIPPED: CRIQUET_TEST_REGISTRY and CRIQUET_TEST_IMAGES are not set");
        return;
    };
    if !is_root() {
        return;
    }
    let (_directory, store) = store_with(|options| {
        if let Ok(certs) = std::env::var("CRIQUET_TEST_CERTS") {
            options.certs_dir = certs.into();
        }
    });
    for name in images.split(',') {
        let reference = format!("{registry}/{name}");
        let start = std::time::Instant::now();
        let id = store.pull(&reference, None).await.unwrap();
        let image = store.find(&reference).unwrap();
        assert_eq!(image.id, id);
        let users = store.users(&id).unwrap();
        println!(
            "{name}: {:?} size {} layers {} user {:?} {:?}",
            start.elapsed(),
            image.size,
            store.layers(&id).unwrap().len(),
            image.config.user,
            users.find(&image.config.user),
        );
    }
    println!("{:?}", store.fs_usage());
    for image in store.list() {
        here(|| store.remove(&image.id.to_string())).unwrap();
    }
    let usage = store.fs_usage();
    assert_eq!((usage.used_bytes, usage.inodes_used), (0, 0));
}
