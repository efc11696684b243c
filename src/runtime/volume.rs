//! Overlays without a directory to write to, and parts of them: images as volumes.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, OFlags},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
    },
    process::{chdir, fchdir},
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

/// An image whose layers were opened.
#[derive(Debug)]
pub(super) struct Opened {
    layers: Stack,
    label: Option<String>,
    /// The part of it that is mounted.
    part: Option<PathBuf>,
}

#[derive(Debug)]
enum Stack {
    Mounted(OwnedFd),
    Layers(Layers),
}

/// Opens what the options say in the host's mount namespace.
pub(super) fn open(
    data: &[(String, Option<String>)],
    users: Option<&Users<'_>>,
) -> Result<Opened, Error> {
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
    let label = of(CONTEXT).next();
    let from = match users {
        None => Stack::Mounted(overlay(&layers, label)?),
        Some(users) => Stack::Layers(Layers::open(&layers, users)?),
    };
    let part = of(SUB_PATH).next().map(PathBuf::from);
    Ok(Opened { layers: from, label: label.map(str::to_owned), part })
}

impl Opened {
    /// A detached mount of it. `place` is a directory of this mount namespace alone, which
    /// something can be attached to for a moment; it becomes the working directory.
    pub(super) fn mount(self, place: &Path) -> Result<OwnedFd, Error> {
        let tree = match self.layers {
            Stack::Mounted(tree) => tree,
            Stack::Layers(layers) => {
                let attached = layers.attach(place)?;
                overlay(&attached.paths, self.label.as_deref())?
            }
        };
        match &self.part {
            Some(path) => part(&tree, path, place),
            None => Ok(tree),
        }
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
/// on top of `place`.
fn part(tree: &OwnedFd, path: &Path, place: &Path) -> Result<OwnedFd, Error> {
    chdir(place).during("enter", place.display())?;
    attach(tree.as_fd(), CWD)?;
    let part = Root::new(tree.as_fd())
        .open(path, OFlags::PATH)
        .and_then(|place| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            Ok(open_tree(&place, "", flags)?)
        })
        .during("open", format_args!("{} of the image", path.display()));
    // From within: its path may lead past it, and there may be no `/proc`.
    fchdir(tree).during("enter", "overlay of image")?;
    unmount(".", UnmountFlags::DETACH).during("detach", "overlay of image")?;
    chdir(place).during("enter", place.display())?;
    part
}
