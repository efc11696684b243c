//! The mounts of a spec.
//!
//! Each is made detached, gets its attributes, and is then attached at a place that was
//! resolved beneath the root filesystem: no path of an image can lead it elsewhere, and at no
//! moment is it visible without its attributes. What is bound from the host is opened first
//! of all, while the namespace still has the host's peer groups, so that `rslave` and
//! `rshared` mean what they say.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use oci_spec::runtime::{LinuxDevice, Mount};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, XattrFlags, fsetxattr, fstat, openat, statat, symlinkat},
    mount::{OpenTreeFlags, open_tree},
};

use super::{
    cgroup,
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

/// A mount that waits for its place.
pub(super) struct Prepared {
    mount: Mount,
    options: MountOptions,
    /// What was opened beforehand, with all its attributes.
    source: Option<OwnedFd>,
}

/// Parses the options and opens the sources of bind mounts.
pub(super) fn prepare(mounts: &[Mount], users: Option<&Users<'_>>) -> Result<Vec<Prepared>, Error> {
    mounts
        .iter()
        .map(|mount| {
            let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
            let of_type_bind = mount.typ().as_deref() == Some("bind");
            let bind = options.bind.or(of_type_bind.then_some(false));
            let source = bind.map(|recursive| open_source(mount, recursive)).transpose()?;
            if let Some(tree) = &source {
                let path = mount.source().as_deref().unwrap_or(Path::new("/"));
                match (options.idmap, users) {
                    (Some(recursive), Some(users)) => {
                        users::map(tree.as_fd(), users, recursive, path)?;
                    }
                    (Some(_), None) => {
                        let reason = "an id-mapped mount needs a pod with a user namespace";
                        return Err(Error::spec("mounts", reason));
                    }
                    (None, _) => {}
                }
                // Attributes of a shared tree change only for this clone of it.
                let set = set_attributes(tree.as_fd(), &options, false);
                set.map_err(|error| at(mount.destination(), error))?;
            }
            Ok(Prepared { mount: mount.clone(), options, source })
        })
        .collect()
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

/// Makes beforehand what could not be made from within a user namespace: volumes from images,
/// a `/dev` with its devices, and a `/proc` of another PID namespace. `place` is a directory of this mount namespace.
pub(super) fn prepare_for_users(
    mounts: &mut [Prepared],
    devices: &[LinuxDevice],
    users: &Users<'_>,
    member: Option<Member<'_>>,
    place: &Path,
) -> Result<(), Error> {
    let directory = std::fs::File::open(place).during("open", place.display())?;
    for Prepared { mount, options, source } in mounts {
        let destination = mount.destination();
        let tree = match mount.typ().as_deref() {
            Some("overlay") => {
                let root = Root::new(directory.as_fd());
                volume::open(root, &options.data, Some((users, place)))
                    .map_err(|error| at(destination, error))?
            }
            Some("tmpfs") if destination == Path::new("/dev") => {
                let (uid, gid) = users.root;
                let owner = [("uid", uid), ("gid", gid)];
                let owner = owner.map(|(key, id)| (key.to_owned(), Some(id.to_string())));
                let data = [options.data.as_slice(), &owner].concat();
                let tree = filesystem("tmpfs", mount.source().as_deref(), &data)?;
                devices::fill(tree.as_fd(), devices, users.root)?;
                tree
            }
            Some("proc") => match member {
                Some(member) => proc::of(member, &options.data)?,
                None => continue,
            },
            _ => continue,
        };
        set_attributes(tree.as_fd(), options, true)?;
        *source = Some(tree);
    }
    Ok(())
}

/// Makes every mount in the order of the spec. `member` is of the PID namespace that `/proc`
/// is to show, where that is not the caller's.
pub(super) fn attach_all(
    root: BorrowedFd<'_>,
    mounts: Vec<Prepared>,
    member: Option<Member<'_>>,
) -> Result<(), Error> {
    mounts.into_iter().try_for_each(|prepared| {
        let destination = prepared.mount.destination().clone();
        attach_one(Root::new(root), prepared, member).map_err(|error| at(&destination, error))
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

fn attach_one(root: Root<'_>, prepared: Prepared, member: Option<Member<'_>>) -> Result<(), Error> {
    let Prepared { mount, options, source } = prepared;
    let destination = mount.destination();
    if let Some(tree) = source {
        // A link there would let an image choose what is protected.
        let is_protected = ["/dev", "/proc"].map(Path::new).contains(&destination.as_path());
        let target = match is_protected {
            true => plain_directory(root, destination)?,
            false => target_for(root, &tree, destination)?,
        };
        keep_proc(&tree, &target, destination)?;
        return attach(tree.as_fd(), target.as_fd());
    }
    match mount.typ().as_deref().unwrap_or("none") {
        "overlay" => {
            let tree = volume::open(root, &options.data, None)?;
            let target = target_for(root, &tree, destination)?;
            set_attributes(tree.as_fd(), &options, true)?;
            attach(tree.as_fd(), target.as_fd())
        }
        kind @ "mqueue" => {
            let target = directory(root, destination)?;
            attach_queues(kind, &options, target.as_fd())
        }
        kind @ ("cgroup" | "cgroup2") => attach_cgroup(root, kind, destination, &options),
        kind => {
            let target = match kind {
                // A link at the place of these would let an image choose what is protected.
                "proc" | "sysfs" => plain_directory(root, destination)?,
                _ if destination == Path::new("/dev") => plain_directory(root, destination)?,
                _ => directory(root, destination)?,
            };
            let source = mount.source().as_deref();
            let tree = match member {
                Some(member) if kind == "proc" => proc::of(member, &options.data)?,
                _ if kind == "sysfs" => sysfs(&options)?,
                _ => filesystem(kind, source, &options.data)?,
            };
            set_attributes(tree.as_fd(), &options, true)?;
            attach(tree.as_fd(), target.as_fd())
        }
    }
}

/// The sysfs of the network namespace. Where that is the host's, and the user namespace is not,
/// the host's own is shown, read-only.
fn sysfs(options: &MountOptions) -> Result<OwnedFd, Error> {
    match filesystem("sysfs", Some(Path::new("sysfs")), &options.data) {
        Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let tree = clone_of(Path::new("/sys"), true)?;
            let attributes =
                MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
            mount_setattr(tree.as_fd(), attributes, true).during("make read-only", "/sys")?;
            Ok(tree)
        }
        tree => tree,
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

/// The cgroup filesystem as the container's cgroup namespace shows it: one mount on v2, one
/// for each hierarchy below a small tmpfs on v1.
fn attach_cgroup(
    root: Root<'_>,
    kind: &str,
    destination: &Path,
    options: &MountOptions,
) -> Result<(), Error> {
    let version = cgroup::Version::detect().during("inspect", cgroup::ROOT)?;
    if kind == "cgroup2" || version == cgroup::Version::V2 {
        let target = directory(root, destination)?;
        let tree = filesystem("cgroup2", Some(Path::new("cgroup")), &[])?;
        set_attributes(tree.as_fd(), options, true)?;
        return attach(tree.as_fd(), target.as_fd());
    }
    let target = directory(root, destination)?;
    let data = [("mode".to_owned(), Some("755".to_owned()))];
    let tree = filesystem("tmpfs", Some(Path::new("tmpfs")), &data)?;
    attach(tree.as_fd(), target.as_fd())?;
    for (name, controllers) in v1_hierarchies()? {
        let place = destination.join(&name);
        let target = directory(root, &place)?;
        let data: Vec<_> = controllers.into_iter().map(split_option).collect();
        let hierarchy = filesystem("cgroup", Some(Path::new("cgroup")), &data)?;
        set_attributes(hierarchy.as_fd(), options, true)?;
        attach(hierarchy.as_fd(), target.as_fd())?;
        // `cpu` and `cpuacct` lead to `cpu,cpuacct`.
        for (key, _) in data.iter().filter(|(key, value)| value.is_none() && *key != name) {
            symlinkat(name.as_str(), tree.as_fd(), key.as_str()).during("link", key)?;
        }
    }
    set_attributes(tree.as_fd(), options, true)
}

fn split_option(option: String) -> (String, Option<String>) {
    match option.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (option, None),
    }
}

/// Mount names and controllers of the v1 hierarchies that this process is in and that the
/// host has mounted: `/proc/self/cgroup` lines are `ID:CONTROLLERS:PATH`.
fn v1_hierarchies() -> Result<Vec<(String, Vec<String>)>, Error> {
    let file = "/proc/self/cgroup";
    let text = std::fs::read_to_string(file).during("read", file)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|controllers| !controllers.is_empty())
        .map(|controllers| {
            let name = controllers.strip_prefix("name=").unwrap_or(controllers).to_owned();
            (name, controllers.split(',').map(str::to_owned).collect())
        })
        .filter(|(name, _): &(String, Vec<String>)| {
            statat(CWD, Path::new(cgroup::ROOT).join(name), rustix::fs::AtFlags::empty()).is_ok()
        })
        .collect())
}
