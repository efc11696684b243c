//! What a start takes of the host's mounts.

use std::{fs::File, os::fd::AsFd, path::PathBuf};

use rustix::{
    fs::{AtFlags, StatxFlags, statx},
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
    },
};

use super::pod::Pod;

/// Mounts of the host beside those that are there.
const MANY: u64 = 2000;

/// `STATX_MNT_ID_UNIQUE` (statx(2), since Linux 6.8): a number that each mount gets anew, one
/// more than the mount before.
const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Mounts below a directory of the pod.
struct Many(PathBuf);

impl Many {
    fn make(pod: &Pod) -> Self {
        let place = pod.directory.path().join("many");
        std::fs::create_dir(&place).unwrap();
        mount("many", &place, "tmpfs", MountFlags::empty(), None).unwrap();
        let many = Self(place);
        mount_change(&many.0, MountPropagationFlags::PRIVATE).unwrap();
        std::fs::create_dir(many.0.join("source")).unwrap();
        for number in 0..MANY {
            let target = many.0.join(number.to_string());
            std::fs::create_dir(&target).unwrap();
            mount_bind(many.0.join("source"), &target).unwrap();
        }
        many
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// The number of a mount of each of two containers that were started one after the other, as
/// the fewest that were made between them: others make mounts as well.
async fn mounts_of_a_start(pod: &Pod) -> Option<u64> {
    let mut numbers = Vec::new();
    for start in 0..6 {
        let id = format!("{start}");
        pod.run(&id, "sleep 1000").await.unwrap();
        let pid = pod.state_of(&id).await.unwrap().pid;
        let root = File::open(format!("/proc/{pid}/root/")).unwrap();
        let root = statx(root.as_fd(), c"", AtFlags::EMPTY_PATH, UNIQUE).unwrap();
        if root.stx_mask & UNIQUE.bits() == 0 {
            return None;
        }
        numbers.push(root.stx_mnt_id);
    }
    numbers.windows(2).map(|two| two[1] - two[0]).min()
}

#[tokio::test]
async fn a_start_copies_no_mount_of_the_host() {
    let pod = Pod::start().await;
    let _many = Many::make(&pod);
    match mounts_of_a_start(&pod).await {
        Some(made) => assert!(made < MANY, "{made} mounts were made for one start"),
        None => println!("SKIPPED: this kernel does not number mounts (Linux 6.8)"),
    }
}

#[tokio::test]
async fn without_a_template_a_start_copies_them() {
    let pod = Pod::start_without_template().await;
    let _many = Many::make(&pod);
    match mounts_of_a_start(&pod).await {
        Some(made) => assert!(made >= MANY, "{made} mounts were made for one start"),
        None => println!("SKIPPED: this kernel does not number mounts (Linux 6.8)"),
    }
}
