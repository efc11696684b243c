//! The mounts of a spec.
//!
//! Each is made detached, gets its attributes, and is then attached at a place that was
//! resolved beneath the root filesystem: no path of an image can lead it elsewhere, and at no
//! moment is it visible without its attributes. What is bound from the host is opened first
//! of all, in the host's mount namespace with its peer groups, so that `rslave` and
//! `rshared` mean what they say.

mod cgroups;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use oci_spec::runtime::{LinuxDevice, Mount};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, XattrFlags, fsetxattr, fstat, openat},
    mount::{OpenTreeFlags, open_tree},
};

use super::{
    detached::{attach, clone_of, filesystem},
    devices,
    error::{During, Error},
    namespaces::Member,
    options::MountOptions,
    proc::{self, is_proc},
    users::{self, Users},
    volume,
};
use crate::sys::{
    mount::{MountAttributes, mount_setattr},
    path::Root,
};
use cgroups::Cgroups;

/// A mount that waits for its place.
pub(super) struct Prepared {
    mount: Mount,
    options: MountOptions,
    source: Source,
}

/// What was done beforehand.
enum Source {
    /// Nothing.
    None,
    /// It was opened, with all its attributes.
    Tree(OwnedFd),
    /// A part of an image.
    Volume(volume::Opened),
    /// The host's, for those who may not make one of their own.
    Sysfs(OwnedFd),
    /// Where its hierarchies are.
    Cgroup(Cgroups),
}

/// For whom mounts are made.
#[derive(Clone, Copy)]
pub(super) struct For<'a> {
    /// Those of a user namespace.
    pub users: Option<&'a Users<'a>>,
    /// Those of the PID namespace of a process: what `/proc` is to show, where that is not the
    /// caller's.
    pub member: Option<Member<'a>>,
    /// Nodes for their `/dev`.
    pub devices: &'a [LinuxDevice],
}

/// Parses the options, and opens in the host's mount namespace what is the host's.
pub(super) fn open(mounts: &[Mount], whom: For<'_>) -> Result<Vec<Prepared>, Error> {
    mounts
        .iter()
        .map(|mount| {
            let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
            let source = open_one(mount, &options, whom);
            let source = source.map_err(|error| at(mount.destination(), error))?;
            Ok(Prepared { mount: mount.clone(), options, source })
        })
        .collect()
}

fn open_one(mount: &Mount, options: &MountOptions, whom: For<'_>) -> Result<Source, Error> {
    let kind = mount.typ().as_deref();
    if let Some(recursive) = options.bind.or((kind == Some("bind")).then_some(false)) {
        return open_bind(mount, options, recursive, whom.users).map(Source::Tree);
    }
    let fresh = |tree: OwnedFd| {
        set_attributes(tree.as_fd(), options, true)?;
        Ok(Source::Tree(tree))
    };
    match (kind, whom.users, whom.member) {
        (Some("overlay"), users, _) => volume::open(&options.data, users).map(Source::Volume),
        (Some("cgroup" | "cgroup2"), ..) => Cgroups::find(kind).map(Source::Cgroup),
        (Some("proc"), _, Some(member)) => fresh(proc::of(member, &options.data)?),
        // What could not be made from within a user namespace.
        (Some("sysfs"), Some(_), _) => {
            let tree = clone_of(Path::new("/sys"), true)?;
            let attributes =
                MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
            mount_setattr(tree.as_fd(), attributes, true).during("make read-only", "/sys")?;
            Ok(Source::Sysfs(tree))
        }
        (Some("tmpfs"), Some(users), _) if mount.destination() == Path::new("/dev") => {
            let (uid, gid) = users.root;
            let owner = [("uid", uid), ("gid", gid)];
            let owner = owner.map(|(key, id)| (key.to_owned(), Some(id.to_string())));
            let data = [options.data.as_slice(), &owner].concat();
            let tree = filesystem("tmpfs", mount.source().as_deref(), &data)?;
            devices::fill(tree.as_fd(), whom.devices, users.root)?;
            fresh(tree)
        }
        _ => Ok(Source::None),
    }
}

fn open_bind(
    mount: &Mount,
    options: &MountOptions,
    recursive: bool,
    users: Option<&Users<'_>>,
) -> Result<OwnedFd, Error> {
    let tree = open_source(mount, recursive)?;
    let path = mount.source().as_deref().unwrap_or(Path::new("/"));
    match (options.idmap, users) {
        (Some(recursive), Some(users)) => users::map(tree.as_fd(), users, recursive, path)?,
        (Some(_), None) => {
            let reason = "an id-mapped mount needs a pod with a user namespace";
            return Err(Error::spec("mounts", reason));
        }
        (None, _) => {}
    }
    // Attributes of a shared tree change only for this clone of it.
    set_attributes(tree.as_fd(), options, false)?;
    Ok(tree)
}

fn open_source(mount: &Mount, recursive: bool) -> Result<OwnedFd, Error> {
    let source = mount.source().as_deref().ok_or_else(|| {
        let destination = mount.destination().display();
        Error::spec("mounts", format!("the bind mount at {destination} has no source"))
    })?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, source, flags).during("open mount source", source.display())
}

/// Makes whole what was opened, once this process is in the mount namespace of the container,
/// whose `place` something can be attached to for a moment.
pub(super) fn mount_volumes(mounts: &mut [Prepared], place: &Path) -> Result<(), Error> {
    for Prepared { mount, options, source } in mounts {
        if !matches!(source, Source::Volume(_)) {
            continue;
        }
        let Source::Volume(volume) = std::mem::replace(source, Source::None) else { continue };
        let tree = volume.mount(place).map_err(|error| at(mount.destination(), error))?;
        set_attributes(tree.as_fd(), options, true)?;
        *source = Source::Tree(tree);
    }
    Ok(())
}

/// Makes every mount in the order of the spec.
pub(super) fn attach_all(root: BorrowedFd<'_>, mounts: Vec<Prepared>) -> Result<(), Error> {
    mounts.into_iter().try_for_each(|prepared| {
        let destination = prepared.mount.destination().clone();
        attach_one(Root::new(root), prepared).map_err(|error| at(&destination, error))
    })
}

/// Names the place, which the user knows, beside the step that failed.
fn at(destination: &Path, error: Error) -> Error {
    match error {
        Error::System { operation, object, source } => Error::System {
            operation,
            object: format!("{object} for the mount at {}", destination.display()),
            source,
        },
        other => other,
    }
}

fn attach_one(root: Root<'_>, prepared: Prepared) -> Result<(), Error> {
    let Prepared { mount, options, source } = prepared;
    let destination = mount.destination();
    let instead = match source {
        Source::Tree(tree) => return attach_tree(root, &tree, destination),
        Source::Cgroup(cgroups) => return cgroups.attach(root, destination, &options),
        Source::Sysfs(tree) => Some(tree),
        Source::None | Source::Volume(_) => None,
    };
    match mount.typ().as_deref().unwrap_or("none") {
        kind @ "mqueue" => {
            let target = directory(root, destination)?;
            attach_queues(kind, &options, target.as_fd())
        }
        kind => {
            let target = match kind {
                // A link at the place of these would let an image choose what is protected.
                "proc" | "sysfs" => plain_directory(root, destination)?,
                _ if destination == Path::new("/dev") => plain_directory(root, destination)?,
                _ => directory(root, destination)?,
            };
            let tree = match kind {
                "sysfs" => sysfs(&options, instead)?,
                _ => filesystem(kind, mount.source().as_deref(), &options.data)?,
            };
            set_attributes(tree.as_fd(), &options, true)?;
            attach(tree.as_fd(), target.as_fd())
        }
    }
}

fn attach_tree(root: Root<'_>, tree: &OwnedFd, destination: &Path) -> Result<(), Error> {
    // A link there would let an image choose what is protected.
    let is_protected = ["/dev", "/proc"].map(Path::new).contains(&destination);
    let target = match is_protected {
        true => plain_directory(root, destination)?,
        false => target_for(root, tree, destination)?,
    };
    keep_proc(tree, &target, destination)?;
    attach(tree.as_fd(), target.as_fd())
}

/// The sysfs of the network namespace. Where that is the host's, and the user namespace is not,
/// the host's own is shown, read-only.
fn sysfs(options: &MountOptions, hosts: Option<OwnedFd>) -> Result<OwnedFd, Error> {
    let own = filesystem("sysfs", Some(Path::new("sysfs")), &options.data);
    match (own, hosts) {
        (Err(Error::System { source, .. }), Some(hosts))
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Ok(hosts)
        }
        (own, _) => own,
    }
}

/// What the masks, the labels and we ourselves rely on is procfs: nothing else may lie at
/// `/proc`, and nothing may come below it by way of a link.
fn keep_proc(tree: &OwnedFd, target: &OwnedFd, destination: &Path) -> Result<(), Error> {
    let named = destination.starts_with("/proc");
    let allowed = match destination == Path::new("/proc") {
        true => is_proc(tree.as_fd())?,
        false => named || !is_proc(target.as_fd())?,
    };
    if allowed {
        return Ok(());
    }
    let reason = format!(
        "{} would hide a part of /proc of the container; choose another place",
        destination.display()
    );
    Err(Error::spec("mounts", reason))
}

/// The place for a bind mount: a file for a file, a directory for a directory.
fn target_for(root: Root<'_>, tree: &OwnedFd, destination: &Path) -> Result<OwnedFd, Error> {
    let stat = fstat(tree).during("inspect", "mount source")?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return directory(root, destination);
    }
    let target = root.make_file(destination).during("create", destination.display())?;
    let stat = fstat(&target).during("inspect", destination.display())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let reason = format!(
            "{} is a directory in the image, and a file of the host cannot be mounted there; \
             choose another place, or remove the directory from the image",
            destination.display()
        );
        return Err(Error::spec("mounts", reason));
    }
    Ok(target)
}

fn directory(root: Root<'_>, path: &Path) -> Result<OwnedFd, Error> {
    root.make_directory(path, Mode::from_raw_mode(0o755)).during("create", path.display())
}

fn plain_directory(root: Root<'_>, path: &Path) -> Result<OwnedFd, Error> {
    // An image whose link leads nowhere gets no directory at its end either.
    match root.open_without_links(path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => {
            return result
                .during("open", format_args!("{} (which must not be a link)", path.display()));
        }
    }
    directory(root, path)?;
    root.open_without_links(path, OFlags::PATH | OFlags::DIRECTORY)
        .during("open", format_args!("{} (which must not be a link)", path.display()))
}

/// Sets what the options say. `fresh` is a mount that was just made: it has no peers and
/// nothing below, so that it is private already.
fn set_attributes(tree: BorrowedFd<'_>, options: &MountOptions, fresh: bool) -> Result<(), Error> {
    let set = |attributes: MountAttributes, recursive| {
        if attributes.is_empty() {
            return Ok(());
        }
        mount_setattr(tree, attributes, recursive).during("set attributes", "")
    };
    set(options.attributes, false)?;
    set(options.recursive, true)?;
    let default = (!fresh).then_some((libc::MS_PRIVATE, true));
    let Some((propagation, recursive)) = options.propagation.or(default) else { return Ok(()) };
    set(MountAttributes { propagation, ..MountAttributes::default() }, recursive)
}

/// Message queues: the filesystem is as old as its namespace, so that its root can get a label
/// and no mount of it can have one.
fn attach_queues(kind: &str, options: &MountOptions, target: BorrowedFd<'_>) -> Result<(), Error> {
    let (labels, data): (Vec<_>, Vec<_>) =
        options.data.iter().cloned().partition(|(key, _)| key == "context");
    let tree = filesystem(kind, Some(Path::new(kind)), &data)?;
    if let Some((_, Some(label))) = labels.first() {
        let root = openat(&tree, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .during("open", kind)?;
        match fsetxattr(root, "security.selinux", label.as_bytes(), XattrFlags::empty()) {
            // A policy that gives queues the labels of who makes them.
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            result => result.during("label", kind)?,
        }
    }
    set_attributes(tree.as_fd(), options, true)?;
    attach(tree.as_fd(), target)
}
