//! Detached mounts: made, cloned, and attached by descriptor.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};

use super::error::{During, Error};

/// A detached mount of a new filesystem.
pub(super) fn filesystem(
    kind: &str,
    source: Option<&Path>,
    data: &[(String, Option<String>)],
) -> Result<OwnedFd, Error> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during("open filesystem", kind)?;
    if let Some(source) = source {
        fsconfig_set_string(context.as_fd(), "source", source).during("name source of", kind)?;
    }
    set_options(context.as_fd(), kind, data)?;
    fsconfig_create(context.as_fd()).during("create filesystem", kind)?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .during("mount", kind)
}

/// The option of a filesystem that gives all its files an SELinux label.
pub(super) fn context(label: Option<&str>) -> Option<(String, Option<String>)> {
    label.map(|label| ("context".to_owned(), Some(label.to_owned())))
}

/// Sets the options of a filesystem that is being made.
pub(super) fn set_options(
    context: BorrowedFd<'_>,
    kind: &str,
    data: &[(String, Option<String>)],
) -> Result<(), Error> {
    for (key, value) in data {
        let set = match value {
            Some(value) => fsconfig_set_string(context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, key.as_str()),
        };
        set.during("set option", format_args!("{key} of {kind}"))?;
    }
    Ok(())
}

/// Attaches a detached mount on top of what `target` refers to.
pub(super) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Error> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags).during("attach", "it")
}

/// A clone of the mount and place that `path` names in the current root, not yet attached.
pub(super) fn clone_of(path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags).during("open", path.display())
}

/// Opens a directory of the current root to look at, not to use.
pub(super) fn root_directory() -> Result<OwnedFd, Error> {
    File::open("/").map(OwnedFd::from).during("open", "/")
}
