//! A layer of one file, with the same care for its path as for those of an archive.

use std::{io::BufRead, os::fd::OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::{
    BLOCK, Failure, Limits, Unpacked,
    tree::{Tree, components, write},
};

/// Whether a layer may have a file of that path.
///
/// # Errors
/// What is wrong with it.
pub(in super::super) fn check_path(path: &[u8]) -> Result<(), String> {
    match components(path) {
        Ok(names) if names.is_empty() || path.starts_with(b"/") || path.contains(&0) => {
            Err("it is no relative path".to_owned())
        }
        Ok(_) => Ok(()),
        Err(Failure::Refused { reason, .. }) => Err(reason),
        Err(_) => Err("it is no path".to_owned()),
    }
}

/// Writes all that comes from `source` into the file `path` beneath the empty directory `root`.
pub(in super::super) fn write_one(
    root: OwnedFd,
    path: &[u8],
    source: &mut impl BufRead,
) -> Result<Unpacked, Failure> {
    let mut tree = Tree::new(root, Limits::default().path_bytes)?;
    let names = components(path)?;
    let Some((name, parents)) = names.split_last() else {
        return Err(Failure::Refused { path: path.to_vec(), reason: "it is empty".to_owned() });
    };
    let parent = tree.directory(parents)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = rustix::fs::openat(&parent.fd, *name, flags, mode).map_err(write("make", path))?;
    let mut size = 0;
    loop {
        let piece = source.fill_buf().map_err(Failure::Read)?;
        if piece.is_empty() {
            break;
        }
        let written = rustix::io::write(&file, piece).map_err(write("write", path))?;
        source.consume(written);
        size += written as u64;
    }
    rustix::fs::fchmod(&file, mode).map_err(write("set the mode of", path))?;
    drop(parent);
    let implied = tree.finish()?;
    let directories = implied.len() as u64;
    let size = size.next_multiple_of(BLOCK) + BLOCK * directories;
    Ok(Unpacked { implied, size, inodes: directories + 1, recipe: None })
}
