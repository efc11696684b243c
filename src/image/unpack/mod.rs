//! From a layer's archive to a directory that overlay can stack: the one place where a
//! stranger's paths become files. Every path is walked component by component on
//! descriptors beneath the layer's root; links that the archive made are resolved within it
//! and lead nowhere else. Whiteouts become overlay's.
//!
//! Entry point: [`unpack`]. The module does not know registries, digests or other layers.

mod entry;
mod meta;
mod one;
#[cfg(test)]
pub(super) mod tests;
mod tree;

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
    os::fd::OwnedFd,
};

use super::{recipe::Recorder, tar};
use tree::Tree;

pub(super) use meta::{is_opaque, is_whiteout, remove, set_opaque};
pub(super) use one::{check_path, write_one};

/// What a layer came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Directories that the archive takes for granted: their owner and mode are those of
    /// the layers below. The root, which has no name, is among them when it is not listed.
    pub(super) implied: Vec<Vec<u8>>,
    /// Bytes on disk, in whole blocks.
    pub(super) size: u64,
    /// Files and directories.
    pub(super) inodes: u64,
    /// Bytes of the recipe, where one can be kept: an archive that has something twice
    /// cannot be made again from what became of it.
    pub(super) recipe: Option<u64>,
}

/// What an honest layer stays within.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) entries: u64,
    /// All paths that must be remembered, together.
    pub(super) path_bytes: usize,
    /// Those of directories that the archive takes for granted.
    pub(super) implied_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4_000_000, path_bytes: 128 << 20, implied_bytes: 8 << 20 }
    }
}

/// Why a layer was not unpacked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The archive breaks the rules of its format.
    Malformed(String),
    /// An entry must not be unpacked.
    Refused { path: Vec<u8>, reason: String },
    /// The archive is larger than any honest one.
    TooLarge(&'static str),
    /// The stream failed.
    Read(io::Error),
    /// The file system failed.
    Write { operation: &'static str, path: Vec<u8>, source: io::Error },
}

impl From<tar::Error> for Failure {
    fn from(error: tar::Error) -> Self {
        match error {
            tar::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Failure::Malformed("the archive breaks off".to_owned())
            }
            tar::Error::Io(error) => Failure::Read(error),
            tar::Error::Malformed(reason) => Failure::Malformed(reason.to_owned()),
            tar::Error::TooLarge(what) => Failure::TooLarge(what),
        }
    }
}

/// Unpacks the archive into the empty directory `root`, which nobody else touches, and reads
/// it to its end.
pub(super) fn unpack(
    root: OwnedFd,
    archive: Recorder<impl BufRead>,
    limits: Limits,
) -> Result<Unpacked, Failure> {
    let mut unpacker =
        Unpacker { tree: Tree::new(root, limits.path_bytes)?, size: BLOCK, inodes: 1 };
    let mut reader = tar::Reader::new(archive);
    let mut entries = 0;
    while let Some(entry) = reader.next()? {
        entries += 1;
        if entries > limits.entries {
            return Err(Failure::TooLarge("a layer of so many entries"));
        }
        unpacker.entry(&entry, &mut reader)?;
    }
    let recipe = reader.into_input().finish().map_err(no_recipe)?;
    let recipe = Some(recipe).filter(|_| !unpacker.tree.has_replaced);
    let implied = unpacker.tree.finish()?;
    // They are kept with the layer, for good.
    if implied.iter().map(Vec::len).sum::<usize>() > limits.implied_bytes {
        return Err(Failure::TooLarge("a layer of so many directories that it does not list"));
    }
    // The root is counted already.
    let made = implied.iter().filter(|path| !path.is_empty()).count() as u64;
    let inodes = unpacker.inodes + made;
    let size = unpacker.size + BLOCK * made;
    Ok(Unpacked { implied, size, inodes, recipe })
}

/// The recipe could not be written.
pub(super) fn no_recipe(source: io::Error) -> Failure {
    Failure::Write { operation: "write", path: b"its recipe".to_vec(), source }
}

const BLOCK: u64 = 4096;

struct Unpacker {
    tree: Tree,
    size: u64,
    inodes: u64,
}

/// Directories by their real paths: when they were modified, or nothing when implied.
type Directories = BTreeMap<Vec<u8>, Option<(i64, u32)>>;
