//! Where pods are kept and what they get by default.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::error::{During, Error};

/// What an administrator decides about pods.
#[derive(Debug, Clone)]
pub struct Options {
    /// Durable state.
    pub root: PathBuf,
    /// State that a reboot takes away.
    pub state: PathBuf,
    /// Where network namespaces are bound.
    pub netns_dir: PathBuf,
    /// The cgroup of pods that name no parent.
    pub cgroup_parent: PathBuf,
    /// Runtime handlers, besides the unnamed one.
    pub handlers: Vec<String>,
    /// `/dev/shm` of a pod, in bytes.
    pub shm_size: u64,
    /// Monitors that are kept ready, of each kind.
    pub warm_monitors: usize,
    /// Let every user of a pod use ports below 1024 and send pings, as nodes of other
    /// runtimes do.
    pub unprivileged_ports: bool,
    /// What a container may write to its layer, in bytes; 0 for any number.
    pub writable_layer_limit: u64,
    /// The AppArmor profile of containers that name none, or `unconfined`.
    pub apparmor_profile: String,
    /// Give containers that say nothing about system calls the default filter.
    pub seccomp_default: bool,
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
