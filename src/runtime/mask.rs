//! Paths that a container may not see, or not write.
//!
//! Both run in the new root. Everything is resolved and attached by descriptor, so that what
//! a path names cannot change between a check and its use.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{FileType, OFlags, fstat},
    mount::{OpenTreeFlags, open_tree},
};

use super::{
    detached,
    error::{During, Error},
    stdio,
};
use crate::sys::{
    mount::{MountAttributes, mount_setattr},
    path::Root,
};

const READ_ONLY: MountAttributes =
    MountAttributes { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 };

/// Covers files with the null device and directories with an empty read-only one. Paths that
/// are not there need no cover. `label` is what SELinux knows the directory by.
pub(super) fn mask(paths: &[String], label: Option<&str>) -> Result<(), Error> {
    let root = detached::root_directory()?;
    let mut empty = None;
    for path in paths {
        let Some(target) = find(root.as_fd(), Path::new(path))? else { continue };
        let stat = fstat(&target).during("inspect", path)?;
        let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            empty_directory(&mut empty, path, label)?
        } else {
            null_device()?
        };
        detached::attach(cover.as_fd(), target.as_fd())
            .map_err(|error| named("mask", path, error))?;
    }
    Ok(())
}

/// Makes what lies at each path read-only, mounts below it included.
pub(super) fn make_read_only(paths: &[String]) -> Result<(), Error> {
    let root = detached::root_directory()?;
    for path in paths {
        let Some(target) = find(root.as_fd(), Path::new(path))? else { continue };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&target, "", flags).during("open", path)?;
        mount_setattr(tree.as_fd(), READ_ONLY, true).during("make read-only", path)?;
        detached::attach(tree.as_fd(), target.as_fd())
            .map_err(|error| named("make read-only", path, error))?;
    }
    Ok(())
}

fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, Error> {
    match Root::new(root).open(path, OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(error).during("open", path.display()),
        },
    }
}

fn named(operation: &'static str, path: &str, error: Error) -> Error {
    match error {
        Error::System { source, .. } => {
            Error::System { operation, object: path.to_owned(), source }
        }
        other => other,
    }
}

/// The first cover is a filesystem of its own; later ones are clones of the attached one.
/// That is named by its descriptor: what lies at its path now may be somebody else's.
fn empty_directory(
    first: &mut Option<OwnedFd>,
    path: &str,
    label: Option<&str>,
) -> Result<OwnedFd, Error> {
    if let Some(attached) = first {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        return open_tree(attached, "", flags).during("open", path);
    }
    let mut options = vec![("nr_blocks".to_owned(), Some("1".to_owned()))];
    options.extend(detached::context(label));
    let tree = detached::filesystem("tmpfs", Some(Path::new("tmpfs")), &options)?;
    mount_setattr(tree.as_fd(), READ_ONLY, false).during("make read-only", path)?;
    *first = Some(rustix::io::fcntl_dupfd_cloexec(&tree, 3).during("keep", path)?);
    Ok(tree)
}

/// The null device of the container, which is ours: made in a filesystem that was new.
fn null_device() -> Result<OwnedFd, Error> {
    let null = Path::new("/dev/null");
    let tree = detached::clone_of(null, false)?;
    if !stdio::is_null(tree.as_fd())? {
        let reason = "/dev/null of the container is not the null device, so nothing can be masked";
        return Err(Error::spec("linux.maskedPaths", reason));
    }
    Ok(tree)
}
