//! Where pods are kept and what they get by default.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    allowed::AllowedAnnotations,
    error::{During, Error},
    rules::Rules,
};
use crate::spec::ulimit::Ulimit;

/// What becomes of the volumes that an image declares (`VOLUME`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageVolumes {
    /// Each is a directory of its own, filled with what the image has there, writable also
    /// below a read-only root, and gone with the container.
    #[default]
    Bind,
    /// Directories in the root filesystem where they are absent, and nothing else.
    Mkdir,
    /// Nothing.
    Ignore,
}

/// Who makes the cgroups of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// systemd, where it runs the node and the node has cgroup v2, and otherwise the file system.
    #[default]
    Auto,
    /// systemd: each pod is a scope.
    Systemd,
    /// Criquet, through the file system.
    Cgroupfs,
}

/// What an administrator decides about containers.
#[derive(Debug, Clone, Default)]
pub struct ContainerOptions {
    /// Volumes that images declare.
    pub image_volumes: ImageVolumes,
    /// The file of classes of block I/O; none where there are none.
    pub blockio_config_file: Option<PathBuf>,
    /// Names and values of variables that every container has, unless it or its image has
    /// another value.
    pub default_env: Vec<(String, String)>,
    /// Limits of processes; those that are not named are the daemon's.
    pub default_ulimits: Vec<Ulimit>,
    /// A file of the host with the time zone of containers; none for the image's.
    pub timezone: Option<PathBuf>,
    /// Whether a container's user that its image does not know gets a line in `/etc/passwd`.
    pub passwd_entries: bool,
    /// What annotations of pods may ask for.
    pub allowed_annotations: AllowedAnnotations,
    /// Bytes a second that a container may write to its log; 0 for any number.
    pub log_rate: u64,
    /// Bytes that may come at once; 0 for ten seconds' worth.
    pub log_burst: u64,
}

/// What an administrator decides about pods.
#[derive(Debug, Clone)]
pub struct Options {
    /// Durable state.
    pub root: PathBuf,
    /// State that a reboot takes away.
    pub state: PathBuf,
    /// Where network namespaces are bound.
    pub netns_dir: PathBuf,
    /// Who makes the cgroups of pods.
    pub cgroup_driver: CgroupDriver,
    /// The cgroup of pods that name no parent; with systemd the slice that is named after it.
    pub cgroup_parent: PathBuf,
    /// What holds until [`super::Pods::set_rules`] says otherwise.
    pub rules: Rules,
    /// `/dev/shm` of a pod, in bytes.
    pub shm_size: u64,
    /// Monitors that are kept ready, of each kind.
    pub warm_monitors: usize,
    /// Let every user of a pod use ports below 1024 and send pings, as nodes of other
    /// runtimes do.
    pub unprivileged_ports: bool,
    /// What a container may write to its layer, in bytes; 0 for any number.
    pub writable_layer_limit: u64,
    /// Containers.
    pub containers: ContainerOptions,
    /// Give containers SELinux labels where the kernel has SELinux.
    pub selinux: bool,
    /// Categories of levels are below this number.
    pub selinux_category_range: u32,
}

impl Options {
    pub(super) fn make_directories(&self) -> Result<(), Error> {
        private(&self.root)?;
        private(&self.state)?;
        for directory in [
            self.root.join("containers"),
            self.root.join("work"),
            self.root.join("volumes"),
            self.root.join("trash"),
            self.state.join("pods"),
            self.state.join("bundles"),
            self.pool_directory(),
            self.mount_point(),
        ] {
            private(&directory)?;
        }
        private(&self.empty_layer())?;
        self.make_base_layer()
    }

    /// The layer below all layers of an image: empty places for what every container has
    /// mounted, so that none has to be made in each container's writable directory.
    fn make_base_layer(&self) -> Result<(), Error> {
        let base = self.base_layer();
        for name in ["dev", "etc", "proc", "sys"] {
            let path = base.join(name);
            fs::create_dir_all(&path).during("create", &path)?;
        }
        for name in ["etc/hostname", "etc/hosts", "etc/resolv.conf"] {
            let path = base.join(name);
            // A disk may have become read-only since they were made.
            if !path.exists() {
                fs::File::create(&path).during("create", &path)?;
            }
        }
        Ok(())
    }

    /// Sockets of monitors that wait for a pod.
    pub(super) fn pool_directory(&self) -> PathBuf {
        self.state.join("pool")
    }

    /// What lies below an image that is mounted as a volume: overlay wants two layers.
    pub(super) fn empty_layer(&self) -> PathBuf {
        self.root.join("empty")
    }

    pub(super) fn base_layer(&self) -> PathBuf {
        self.root.join("base")
    }

    /// An empty directory that containers attach their root filesystem to.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.state.join("rootfs")
    }
}

/// A directory that only root sees into: setuid programs of images lie below it.
fn private(path: &Path) -> Result<(), Error> {
    let make = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        // A disk may have become read-only since it was made.
        match fs::metadata(path)?.permissions().mode() & 0o7777 {
            0o700 => Ok(()),
            _ => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
        }
    };
    make().during("prepare directory", path)
}
