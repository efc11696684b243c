//! The root filesystem: assembled in the mount namespace of the container, and made its root.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
        mount_change, unmount,
    },
    process::{chdir, fchdir, pivot_root},
};

use super::{
    bundle::Rootfs,
    detached,
    error::{During, Error},
    users::{self, Layers, Users},
};
use crate::{
    kind::Kind,
    sys::mount::{MountAttributes, mount_setattr},
};

/// Ends the propagation of mounts from this namespace to the host; those of the host still
/// come in until the old root is gone.
pub(super) fn isolate() -> Result<(), Error> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .during("stop propagation of", "/")
}

/// A root filesystem that was opened in the host's mount namespace.
#[derive(Debug)]
pub(super) enum Opened<'a> {
    /// It waits for its place.
    Detached(OwnedFd),
    /// An overlay for those of a user namespace.
    Mapped {
        /// Its layers, and a directory that both others are in.
        layers: Layers,
        /// Path of the writable directory from there.
        upper: &'a Path,
        /// Path of its work directory from there.
        work: &'a Path,
    },
    /// An overlay for a kernel before 6.7, which takes layers only as one string, through
    /// `mount(2)`.
    Legacy {
        /// The directory that the layers lie in.
        layers: &'a Path,
        /// Layers relative to it.
        lower: &'a [PathBuf],
        /// The writable directory.
        upper: &'a Path,
        /// Its work directory.
        work: &'a Path,
    },
}

/// Opens the root filesystem with the owners that it has inside. `label` is what SELinux knows
/// all its files by.
pub(super) fn open<'a>(
    rootfs: &'a Rootfs,
    users: Option<&Users<'_>>,
    label: Option<&str>,
) -> Result<Opened<'a>, Error> {
    let (layers, lower, upper, work) = match rootfs {
        Rootfs::Directory(directory) => {
            let tree = detached::clone_of(directory, true)?;
            if let Some(users) = users {
                users::map(tree.as_fd(), users, true, directory)?;
            }
            return Ok(Opened::Detached(tree));
        }
        Rootfs::Overlay { layers, lower, upper, work } => (layers, lower, upper, work),
    };
    let absolute: Vec<PathBuf> = lower.iter().map(|layer| layers.join(layer)).collect();
    if let Some(users) = users {
        let mut layers = Layers::open(&absolute, users)?;
        // An overlay wants both on one mount.
        let above = upper.ancestors().find_map(|above| {
            Some((above, upper.strip_prefix(above).ok()?, work.strip_prefix(above).ok()?))
        });
        let Some((above, upper, work)) = above else {
            return Err(Error::spec("root", "the paths of its directories must be absolute"));
        };
        layers.push_as_it_is(above)?;
        return Ok(Opened::Mapped { layers, upper, work });
    }
    match overlay(&absolute, upper, work, label) {
        Err(error) if is_invalid(&error) => Ok(Opened::Legacy { layers, lower, upper, work }),
        tree => tree.map(Opened::Detached),
    }
}

fn too_old(error: Error) -> Error {
    match is_invalid(&error) {
        true => Error::Child {
            kind: Kind::FailedPrecondition,
            message: format!(
                "{}; a user namespace needs Linux 6.7 and a file system below the root directory \
                 that can map owners",
                error.full_message()
            ),
        },
        false => error,
    }
}

impl Opened<'_> {
    /// Whether it can be made only where the paths of the host are.
    pub(super) fn needs_host(&self) -> bool {
        matches!(self, Opened::Legacy { .. })
    }

    /// Goes on in the mount namespace of the container, whose `place` anything can be attached
    /// to.
    pub(super) fn mount(self, place: &Path, label: Option<&str>) -> Result<Mounted, Error> {
        match self {
            Opened::Detached(tree) => Ok(Mounted::Detached(tree)),
            Opened::Mapped { layers, upper, work } => {
                let attached = layers.attach(place)?;
                let Some((directory, lower)) = attached.paths.split_last() else {
                    return Err(Error::spec("root", "it has no layers"));
                };
                let tree = overlay(lower, &directory.join(upper), &directory.join(work), label);
                tree.map(Mounted::Detached).map_err(too_old)
            }
            Opened::Legacy { layers, lower, upper, work } => {
                legacy_overlay(layers, lower, upper, work, place, label).map(Mounted::Attached)
            }
        }
    }
}

/// A root filesystem that is whole.
#[derive(Debug)]
pub(super) enum Mounted {
    /// It waits for its place.
    Detached(OwnedFd),
    /// It is at its place already.
    Attached(OwnedFd),
}

impl Mounted {
    /// Attaches the root filesystem at the working directory and returns its root. The root of
    /// a user namespace may not be able to get there by a path.
    pub(super) fn attach_here(self) -> Result<OwnedFd, Error> {
        let tree = match self {
            Mounted::Attached(tree) => return Ok(tree),
            Mounted::Detached(tree) => tree,
        };
        detached::attach(tree.as_fd(), CWD)?;
        Ok(tree)
    }
}

fn overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    label: Option<&str>,
) -> Result<OwnedFd, Error> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).during("open", "overlay")?;
    let set = |key: &'static str, path: &Path| {
        fsconfig_set_string(context.as_fd(), key, path)
            .during("set overlay option", format!("{key}={}", path.display()))
    };
    // What `df` and the mount table show.
    set("source", Path::new("overlay"))?;
    for layer in lower {
        set("lowerdir+", layer)?;
    }
    set("upperdir", upper)?;
    set("workdir", work)?;
    if let Some(label) = label {
        set("context", Path::new(label))?;
    }
    // The upper directory is worth nothing after a power cut, since its container has ended:
    // no sync at every unmount.
    fsconfig_set_flag(context.as_fd(), "volatile").during("set overlay option", "volatile")?;
    fsconfig_create(context.as_fd())
        .during("mount overlay for", format_args!("{}", upper.display()))?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .during("mount", "overlay")
}

fn is_invalid(error: &Error) -> bool {
    matches!(error, Error::System { source, .. } if source.kind() == io::ErrorKind::InvalidInput)
}

/// The options of `mount(2)` must fit into a page, so that layers are named from within their
/// directory, where their names are short.
fn legacy_overlay(
    layers: &Path,
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    mount_point: &Path,
    label: Option<&str>,
) -> Result<OwnedFd, Error> {
    chdir(layers).during("enter", layers.display())?;
    let names: Vec<String> = lower.iter().map(|layer| layer.display().to_string()).collect();
    let context = label.map(|label| format!(",context=\"{label}\"")).unwrap_or_default();
    let data = format!(
        "lowerdir={},upperdir={},workdir={},volatile{context}",
        names.join(":"),
        upper.display(),
        work.display()
    );
    let data = std::ffi::CString::new(data)
        .map_err(|_| Error::spec("root", "a path of the root filesystem holds a zero byte"))?;
    mount("overlay", mount_point, "overlay", MountFlags::empty(), Some(data.as_c_str()))
        .during("mount overlay at", mount_point.display())?;
    File::open(mount_point).map(OwnedFd::from).during("open", mount_point.display())
}

/// Makes the attached filesystem the root and lets go of everything else that was mounted.
pub(super) fn pivot(root: BorrowedFd<'_>) -> Result<(), Error> {
    fchdir(root).during("enter", "root filesystem")?;
    pivot_root(".", ".").during("change to", "root filesystem")?;
    // The old root now lies on top of the new one, at the same place.
    unmount(".", UnmountFlags::DETACH).during("detach", "root of the host")?;
    chdir("/").during("enter", "/")
}

/// Sets propagation and read-only state of the new root.
pub(super) fn finish(propagation: Option<&str>, read_only: bool) -> Result<(), Error> {
    let (flag, recursive) = match propagation.unwrap_or("private") {
        "private" => (libc::MS_PRIVATE, false),
        "rprivate" => (libc::MS_PRIVATE, true),
        "slave" | "rslave" => (libc::MS_SLAVE, false),
        "shared" | "rshared" => (libc::MS_SHARED, false),
        "unbindable" | "runbindable" => (libc::MS_UNBINDABLE, false),
        other => {
            let reason = format!("{other:?} is no propagation; use private, slave or shared");
            return Err(Error::spec("linux.rootfsPropagation", reason));
        }
    };
    let set = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let root =
        rustix::fs::open("/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, 0.into())
            .during("open", "/")?;
    let attributes = MountAttributes { set, clear: 0, propagation: flag };
    mount_setattr(root.as_fd(), attributes, recursive && !read_only)
        .during("set attributes of", "root filesystem")
}
