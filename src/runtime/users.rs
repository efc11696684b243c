//! The user namespace of a pod: whoever is root in its containers is nobody on the host.
//!
//! What needs the host's rights is done before a process enters it: volumes and layers are
//! opened, with the owners that they have inside, and devices are made. What belongs to the
//! container is made inside, so that it is the container's own: its mount, PID and cgroup
//! namespaces, and what shows them.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, mkdirat},
    mount::{MoveMountFlags, UnmountFlags, move_mount, unmount},
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::{
    detached::{clone_of, filesystem},
    error::{During, Error},
};
use crate::sys::{clone::setns, mount::idmap};

/// The user namespace of a pod.
#[derive(Debug, Clone, Copy)]
pub struct Users<'fd> {
    /// It.
    pub namespace: BorrowedFd<'fd>,
    /// Who is root in it on the host.
    pub root: (u32, u32),
}

/// Makes this process root in the namespace, with all rights there and none outside.
pub(crate) fn enter(namespace: BorrowedFd<'_>) -> Result<(), Error> {
    setns(namespace, libc::CLONE_NEWUSER).during("join", "user namespace")?;
    become_root()
}

/// The same for a process whose namespace is meant.
pub(super) fn become_root() -> Result<(), Error> {
    set_thread_groups(&[]).during("set", "supplementary groups")?;
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).during("become", "root of the user namespace")?;
    set_thread_res_uid(uid, uid, uid).during("become", "root of the user namespace")
}

/// Shows the owners of a detached mount as they are inside.
pub(super) fn map(
    tree: BorrowedFd<'_>,
    users: &Users<'_>,
    recursive: bool,
    path: &Path,
) -> Result<(), Error> {
    idmap(tree, users.namespace, recursive).map_err(|source| Error::System {
        operation: "map owners (which its file system must support) of",
        object: path.display().to_string(),
        source,
    })
}

/// Layers of an overlay with the owners that they have inside. An overlay takes them by their
/// paths alone (before Linux 6.13), so that they are to be attached for a moment.
#[derive(Debug)]
pub(super) struct Layers(Vec<OwnedFd>);

/// Layers that are attached for as long as this lives: below a directory of this mount
/// namespace, on a filesystem of their own.
pub(super) struct Attached<'place> {
    place: &'place Path,
    /// Where they are, in their order.
    pub paths: Vec<PathBuf>,
}

impl Layers {
    /// Opens directories of the host.
    pub(super) fn open(layers: &[PathBuf], users: &Users<'_>) -> Result<Self, Error> {
        let open = |layer: &PathBuf| {
            let tree = clone_of(layer, false)?;
            map(tree.as_fd(), users, false, layer)?;
            Ok(tree)
        };
        layers.iter().map(open).collect::<Result<_, Error>>().map(Self)
    }

    /// Adds a directory of the host whose owners stay what they are, as the last one.
    pub(super) fn push_as_it_is(&mut self, directory: &Path) -> Result<(), Error> {
        self.0.push(clone_of(directory, false)?);
        Ok(())
    }

    /// Attaches them below `place`.
    pub(super) fn attach<'place>(&self, place: &'place Path) -> Result<Attached<'place>, Error> {
        let directories = filesystem("tmpfs", Some(Path::new("tmpfs")), &[])?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&directories, "", CWD, place, flags).during("attach", "layers")?;
        let mut attached = Attached { place, paths: Vec::new() };
        for (number, tree) in self.0.iter().enumerate() {
            let name = number.to_string();
            let path = place.join(&name);
            mkdirat(&directories, &name, Mode::from_raw_mode(0o700))
                .during("create directory", path.display())?;
            move_mount(tree, "", CWD, &path, flags).during("attach layer at", path.display())?;
            attached.paths.push(path);
        }
        Ok(attached)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        // The overlay has them by now; this mount namespace ends soon.
        let _ = unmount(self.place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}
