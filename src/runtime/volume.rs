//! Overlays without a directory to write to, and parts of them: images as volumes.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::OFlags,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
    },
    process::chdir,
};

use super::{
    detached::attach,
    error::{During, Error},
    users::{Layers, Users},
};
use crate::sys::path::Root;

/// One more layer, further below than those before it (overlayfs, since Linux 6.8).
const LAYER: &str = "lowerdir+";
/// The part that is mounted, relative to the overlay's root.
const SUB_PATH: &str = "criquet.subpath";
/// The SELinux label of all files.
const CONTEXT: &str = "context";

/// A detached mount of what the options say, with the owners that it has inside. `root` is a
/// place of this mount namespace alone, where the overlay can be attached while a part of it is
/// looked up; `place` is the path of one where layers can be.
pub(super) fn open(
    root: Root<'_>,
    data: &[(String, Option<String>)],
    users: Option<(&Users<'_>, &Path)>,
) -> Result<OwnedFd, Error> {
    let options: Vec<(&str, &str)> =
        data.iter().map(|(key, value)| (key.as_str(), value.as_deref().unwrap_or(""))).collect();
    let of =
        |wanted| options.iter().filter(move |(key, _)| *key == wanted).map(|(_, value)| *value);
    let layers: Vec<PathBuf> = of(LAYER).map(PathBuf::from).collect();
    if let Some((key, _)) =
        options.iter().find(|(key, _)| ![LAYER, SUB_PATH, CONTEXT].contains(key))
    {
        return Err(Error::spec("mounts", format!("an overlay has no option {key:?}")));
    }
    let mapped = users.map(|(users, place)| Layers::attach(&layers, users, place)).transpose()?;
    let paths = mapped.as_ref().map_or(&layers, |mapped| &mapped.paths);
    let tree = overlay(paths, of(CONTEXT).next())?;
    drop(mapped);
    match of(SUB_PATH).next() {
        Some(path) => part(root, &tree, Path::new(path)),
        None => Ok(tree),
    }
}

fn overlay(layers: &[PathBuf], label: Option<&str>) -> Result<OwnedFd, Error> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).during("open", "overlay")?;
    for (index, layer) in layers.iter().enumerate() {
        match fsconfig_set_string(context.as_fd(), LAYER, layer) {
            Err(rustix::io::Errno::INVAL) if index == 0 => {
                set_together(context.as_fd(), layers)?;
                break;
            }
            result => result.during("add layer", layer.display())?,
        }
    }
    if let Some(label) = label {
        fsconfig_set_string(context.as_fd(), CONTEXT, label)
            .during("set overlay option", CONTEXT)?;
    }
    fsconfig_create(context.as_fd()).during("mount overlay of", "image")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).during("mount", "overlay")
}

/// Older kernels take all layers at once, in 255 bytes: by names as they are seen from the
/// directory of the first.
fn set_together(context: rustix::fd::BorrowedFd<'_>, layers: &[PathBuf]) -> Result<(), Error> {
    let parent = layers.first().and_then(|layer| layer.parent()).unwrap_or(Path::new("/"));
    chdir(parent).during("enter", parent.display())?;
    let names: Vec<_> = layers
        .iter()
        .map(|layer| layer.strip_prefix(parent).unwrap_or(layer).display().to_string())
        .collect();
    fsconfig_set_string(context, "lowerdir", names.join(":"))
        .during("add layers (more of them need Linux 6.8)", parent.display())
}

/// Only a mount that is attached can be taken apart (before Linux 6.15): for a moment it lies
/// on top of the root filesystem, which is reached beneath it by its descriptor.
fn part(root: Root<'_>, tree: &OwnedFd, path: &Path) -> Result<OwnedFd, Error> {
    attach(tree.as_fd(), root.directory())?;
    let part = Root::new(tree.as_fd())
        .open(path, OFlags::PATH)
        .and_then(|place| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            Ok(open_tree(&place, "", flags)?)
        })
        .during("open", format_args!("{} of the image", path.display()));
    let attached = format!("/proc/self/fd/{}", tree.as_raw_fd());
    unmount(attached.as_str(), UnmountFlags::DETACH).during("detach", "overlay of image")?;
    part
}
