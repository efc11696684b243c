//! How the store is set up, and what it says of its disk and its images.

use std::{path::PathBuf, time::Duration};

use super::Rules;

/// Where images are, and how they are pulled.
#[derive(Debug, Clone)]
pub struct Options {
    /// The store's own directory.
    pub root: PathBuf,
    /// The tree of `HOST/hosts.toml` files.
    pub certs_dir: PathBuf,
    /// Which images are let in (containers-policy.json(5)); none for all.
    pub signature_policy: Option<PathBuf>,
    /// Policies of single namespaces, `NAMESPACE.json`, before the one above.
    pub signature_policy_dir: Option<PathBuf>,
    /// Layers of one image that are downloaded and unpacked side by side.
    pub max_parallel_downloads: usize,
    /// Ranges of one large layer that are downloaded side by side.
    pub max_parallel_ranges: usize,
    /// Layers of at least so many bytes, compressed, are downloaded in ranges, and go on
    /// where they were after the daemon was killed.
    pub large_layer: u64,
    /// A registry that sends nothing for this long has failed.
    pub progress_timeout: Duration,
    /// And so has one that sends fewer bytes a second for that long, on each connection; 0 to
    /// wait for any.
    pub min_rate: u64,
    /// Criquet's own program, which decompresses in processes without rights; none for threads
    /// of this one.
    pub decompressor: Option<PathBuf>,
    /// What holds until [`super::ImageStore::set_rules`] says otherwise.
    pub rules: Rules,
}

impl Options {
    /// The defaults, beneath a directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            certs_dir: PathBuf::from("/etc/criquet/certs.d"),
            signature_policy: None,
            signature_policy_dir: None,
            max_parallel_downloads: 4,
            max_parallel_ranges: 4,
            large_layer: 8 << 20,
            progress_timeout: Duration::from_secs(300),
            min_rate: 1 << 10,
            decompressor: None,
            rules: Rules::default(),
        }
    }
}

/// To whom the root directory of an image belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootOwner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The mode's lowest twelve bits.
    pub mode: u32,
}

impl Default for RootOwner {
    fn default() -> Self {
        Self { uid: 0, gid: 0, mode: 0o755 }
    }
}

/// What the store takes on its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsUsage {
    /// A directory on the file system.
    pub path: PathBuf,
    /// Bytes of all layers.
    pub used_bytes: u64,
    /// Files and directories of all layers.
    pub inodes_used: u64,
}
