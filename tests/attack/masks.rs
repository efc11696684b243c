//! Places that a container may not see.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::common::{Node, requests};
use criquet::cri::v1;

/// The second mask is a clone of the first; whoever exchanges what lies at the place of the
/// first must not decide what is cloned.
#[tokio::test(flavor = "multi_thread")]
async fn a_mask_is_not_looked_up_again() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("masks").await;
    let volume = node.path("volume");
    for name in ["first", "second"] {
        fs::create_dir_all(volume.join(name)).unwrap();
        fs::write(volume.join(name).join("secret"), "").unwrap();
    }
    symlink("/etc", volume.join("link")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (volume, stop) = (fs::File::open(&volume).unwrap(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(&volume, "first", &volume, "link", flags);
            }
        })
    };
    let mut shown = Vec::new();
    for number in 0..30 {
        let mut config = requests::script(&format!("c{number}"), "ls /volume/second");
        config.mounts.push(v1::Mount {
            container_path: "/volume".to_owned(),
            host_path: volume.display().to_string(),
            ..Default::default()
        });
        requests::security(&mut config).masked_paths =
            ["/volume/first", "/volume/second"].map(str::to_owned).into();
        let log = node.container_log(&config);
        let id = node.create(&pod, config).await.unwrap();
        if node.start_container(&id).await.is_ok() {
            node.end_of(&id).await;
            shown.extend(crate::common::log_texts(&log, "stdout"));
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(shown.is_empty(), "a masked directory shows {shown:?}");
}
