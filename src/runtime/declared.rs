//! Volumes that an image declares: directories of their own, filled with what the image has at
//! their place, which can be written whatever becomes of the root filesystem.
//!
//! The content is copied from the assembled root filesystem, where each path is resolved
//! beneath its root and no link is followed, by the process that becomes the container: in its
//! cgroup, and before anything of the container runs.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, fstat, mkdirat, open, openat},
    mount::{OpenTreeFlags, open_tree},
};

use super::{
    bundle::DeclaredVolumes,
    detached,
    error::{During, Error},
};
use crate::sys::{
    mount::{MountAttributes, mount_setattr},
    path::Root,
    tree,
};

/// Where the copy remembers which names are those of one file.
const LINKS: &str = "links";

/// Volumes that wait for their places.
#[derive(Debug)]
pub(super) struct Prepared {
    paths: Vec<PathBuf>,
    /// What SELinux is to know the files by.
    label: Option<String>,
    /// None for directories in the root filesystem.
    places: Option<Places>,
}

#[derive(Debug)]
struct Places {
    directory: OwnedFd,
    links: OwnedFd,
    volumes: Vec<Place>,
}

/// A volume's directory: to be filled, and as a mount.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    tree: OwnedFd,
}

/// Makes the volumes' directories, while the host's are still seen. `owner` is who fills them
/// where that is not the host's root.
pub(super) fn prepare(
    volumes: &DeclaredVolumes,
    owner: Option<(u32, u32)>,
    label: Option<&str>,
) -> Result<Prepared, Error> {
    let directory = volumes.directory.as_deref().filter(|_| !volumes.paths.is_empty());
    let make = |directory| {
        let label = label.map(Labelling::begin).transpose()?;
        let places = make_places(directory, volumes.paths.len(), owner);
        label.map_or(Ok(()), Labelling::end)?;
        places
    };
    let places = directory.map(make).transpose()?;
    Ok(Prepared { paths: volumes.paths.clone(), label: label.map(str::to_owned), places })
}

fn make_places(path: &Path, count: usize, owner: Option<(u32, u32)>) -> Result<Places, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(path, flags, Mode::empty()).during("open", path.display())?;
    let give = |directory: &OwnedFd| match owner {
        Some((uid, gid)) => fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))),
        None => Ok(()),
    };
    give(&directory).during("give away", path.display())?;
    let make = |name: &str| {
        // What a start has left that did not come to its end.
        tree::remove(directory.as_fd(), Path::new(name))?;
        mkdirat(&directory, name, Mode::RWXU)?;
        let made = openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        give(&made)?;
        Ok::<_, io::Error>(made)
    };
    let links = make(LINKS).during("create a volume below", path.display())?;
    let volume = |number: usize| {
        let made = make(&number.to_string()).during("create a volume below", path.display())?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&made, "", flags).during("open a volume below", path.display())?;
        let private = MountAttributes { propagation: libc::MS_PRIVATE, ..Default::default() };
        mount_setattr(tree.as_fd(), private, false)
            .during("prepare a volume below", path.display())?;
        Ok(Place { directory: made, tree })
    };
    let volumes = (0..count).map(volume).collect::<Result<_, Error>>()?;
    Ok(Places { directory, links, volumes })
}

impl Prepared {
    /// Whether they are filled with the help of the host's `/proc`: labels are set there.
    pub(super) fn need_host(&self) -> bool {
        self.label.is_some() && self.places.is_some()
    }
}

/// Fills the volumes and attaches them.
pub(super) fn attach(root: BorrowedFd<'_>, prepared: Prepared) -> Result<(), Error> {
    let Prepared { paths, label, places } = prepared;
    let targets = paths.iter().map(|path| target(Root::new(root), path));
    let targets = targets.collect::<Result<Vec<_>, Error>>()?;
    let Some(Places { directory, links, volumes }) = places else { return Ok(()) };
    let label = label.as_deref().map(Labelling::begin).transpose()?;
    // All are filled before any is attached: links may lead from one into another.
    for ((target, volume), path) in targets.iter().zip(&volumes).zip(&paths) {
        let Some(target) = target else { continue };
        tree::copy(target.as_fd(), volume.directory.as_fd(), links.as_fd())
            .during("fill the volume at", path.display())?;
    }
    label.map_or(Ok(()), Labelling::end)?;
    tree::remove(directory.as_fd(), Path::new(LINKS)).during("remove", "links of volumes")?;
    for (target, volume) in targets.iter().zip(&volumes) {
        let Some(target) = target else { continue };
        detached::attach(volume.tree.as_fd(), target.as_fd())?;
    }
    Ok(())
}

/// The label of SELinux that all files get which this process makes (`fscreate` of
/// proc_pid_attr(5)).
struct Labelling(File);

impl Labelling {
    fn begin(label: &str) -> Result<Self, Error> {
        let path = "/proc/thread-self/attr/fscreate";
        let file = File::options().write(true).open(path).during("open", path)?;
        rustix::io::write(&file, label.as_bytes()).during("write", path)?;
        Ok(Self(file))
    }

    /// An empty write, which is one that `std` leaves out.
    fn end(self) -> Result<(), Error> {
        rustix::io::write(&self.0, &[]).map(drop).during("end", "labelling")
    }
}

/// The place of a volume. Nothing where the image has no directory there, or its root itself:
/// what an image says is no request of the user's, and what makes no sense is passed over.
fn target(root: Root<'_>, path: &Path) -> Result<Option<OwnedFd>, Error> {
    let made = match root.make_directory(path, Mode::from_raw_mode(0o755)) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::EEXIST | libc::ELOOP)) =>
        {
            return Ok(None);
        }
        made => made.during("create the volume at", path.display())?,
    };
    let number = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let is_root = number(made.as_fd())
        .and_then(|place| Ok(place == number(root.directory())?))
        .during("inspect the volume at", path.display())?;
    Ok((!is_root).then_some(made))
}
