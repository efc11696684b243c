//! ImageFsInfo.

use std::{os::unix::fs::MetadataExt, path::Path, time::SystemTime};

use tonic::Status;

use super::ImageServer;
use crate::{cri::v1, pod};

impl ImageServer {
    pub(super) async fn image_fs_info(
        &self,
        _request: v1::ImageFsInfoRequest,
    ) -> Result<v1::ImageFsInfoResponse, Status> {
        let images = self.images().fs_usage();
        let written = self.pods.writable_layers();
        let containers = &self.pods.options().root;
        // Kubelets take two paths for two disks (KEP-4191): on one there is one path.
        let look = || are_on_two_disks(containers, &images.path);
        let is_split = *self.is_split.get_or_init(look).await;
        let of_containers = if is_split { containers } else { &images.path };
        let now = SystemTime::now();
        let of_images = pod::Usage { bytes: images.used_bytes, inodes: images.inodes_used };
        Ok(v1::ImageFsInfoResponse {
            image_filesystems: vec![usage(&images.path, now, Some(of_images))],
            container_filesystems: vec![usage(
                of_containers,
                written.map_or(now, |(_, at)| at),
                written.map(|(usage, _)| usage),
            )],
        })
    }
}

/// Looked at once: a disk that hangs is waited for by one thread, however often this is asked.
async fn are_on_two_disks(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let (one, other) = (one.to_owned(), other.to_owned());
    let look = move || device(&one) != device(&other);
    tokio::task::spawn_blocking(look).await.unwrap_or(false)
}

/// Figures that are not known are absent, never zero.
fn usage(path: &Path, at: SystemTime, usage: Option<pod::Usage>) -> v1::FilesystemUsage {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
    v1::FilesystemUsage {
        timestamp: since_epoch.map_or(0, |elapsed| elapsed.as_nanos() as i64),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: path.to_string_lossy().into_owned() }),
        used_bytes: usage.map(|usage| v1::UInt64Value { value: usage.bytes }),
        inodes_used: usage.map(|usage| v1::UInt64Value { value: usage.inodes }),
    }
}
