//! Where a container is put together: a mount namespace with nothing of the host in it.
//!
//! A copy of the host's mount namespace costs a start twice, when every mount of the host is
//! copied and when the copy is thrown away, and a node has some for each of its pods. So what
//! a container has of the host is opened first, as detached mounts; its process then goes on
//! in a copy of a template, which holds some empty directories. No mount of another pod is
//! within its reach from there on.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    thread,
};

use rustix::{
    fs::{CWD, Mode, mkdirat},
    mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount},
    process::chdir,
};

use super::{
    detached::{self, filesystem},
    error::{During, Error},
    rootfs,
};
use crate::{
    kind::Kind,
    sys::{
        clone::{setns, unshare},
        mount::{MountAttributes, mount_setattr},
    },
};

/// Where the root filesystem is put together.
const PLACE: &str = "/root";

/// Where those of a user namespace see the host's until they have their own: the kernel lets
/// them mount these two only where they see all of one already (user_namespaces(7)).
const SEEN: [&str; 2] = ["/proc", "/sys"];

/// Makes the template: a mount namespace to be entered by its descriptor. `place` is a
/// directory of the host, on which nothing stays.
///
/// # Errors
/// When the kernel refuses.
pub fn template(place: &Path) -> Result<OwnedFd, Error> {
    let make = || -> Result<OwnedFd, Error> {
        let path = "/proc/thread-self/ns/mnt";
        unshare(libc::CLONE_NEWNS).during("create", "mount namespace")?;
        let namespace = File::open(path).during("open", path)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .during("stop propagation of", "/")?;
        let options = [("mode", "0555"), ("nr_inodes", "5")]
            .map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
        let tree = filesystem("tmpfs", Some(Path::new("criquet")), &options)?;
        for directory in SEEN.into_iter().chain([PLACE]) {
            mkdirat(&tree, directory.trim_start_matches('/'), Mode::from_raw_mode(0o555))
                .during("create", directory)?;
        }
        let set = libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC;
        mount_setattr(tree.as_fd(), MountAttributes { set, ..Default::default() }, false)
            .during("make read-only", "template")?;
        move_mount(&tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during("attach", "template")?;
        rootfs::pivot(tree.as_fd())?;
        Ok(namespace.into())
    };
    let failed = || Error::Child {
        kind: Kind::Internal,
        message: "the thread that makes the template of mount namespaces has ended".to_owned(),
    };
    // A thread of its own: it can never come back.
    thread::scope(|scope| scope.spawn(make).join().map_err(|_| failed())?)
}

/// What the mount namespace of a container begins with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ground<'a> {
    /// A copy of the template.
    Template(BorrowedFd<'a>),
    /// A copy of the host's, and a directory there. It is for what works with paths of the
    /// host.
    Host(&'a Path),
}

impl<'a> Ground<'a> {
    /// A directory there that anything can be attached to.
    pub(super) fn place(self) -> &'a Path {
        match self {
            Ground::Template(_) => Path::new(PLACE),
            Ground::Host(place) => place,
        }
    }

    /// Moves this process there, into [`Ground::place`], from the host's mount namespace.
    pub(super) fn enter(self, has_users: bool) -> Result<(), Error> {
        match self {
            Ground::Template(template) => {
                let seen = SEEN.iter().filter(|_| has_users);
                let open = |path| Ok((path, detached::clone_of(Path::new(path), false)?));
                let seen = seen.map(open).collect::<Result<Vec<(&&str, OwnedFd)>, Error>>()?;
                setns(template, libc::CLONE_NEWNS).during("join", "template")?;
                unshare(libc::CLONE_NEWNS).during("create", "mount namespace")?;
                for (path, tree) in seen {
                    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                    move_mount(&tree, "", CWD, *path, flags).during("attach", path)?;
                }
            }
            Ground::Host(_) => {
                unshare(libc::CLONE_NEWNS).during("create", "mount namespace")?;
                rootfs::isolate()?;
            }
        }
        chdir(self.place()).during("enter", self.place().display())
    }
}
