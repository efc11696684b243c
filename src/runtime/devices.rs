//! Device nodes and links in a container's `/dev`.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, mknodat, symlinkat};

use super::error::{During, Error};
use crate::sys::path::Root;

/// What every container has (OCI runtime spec, "Default Devices").
const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes nodes and links, if `/dev` is a new filesystem. One that was bound from the host is
/// left as it is; its type would not tell, since the host's is a `tmpfs` as well.
pub(super) fn create(
    root: BorrowedFd<'_>,
    devices: &[LinuxDevice],
    mounts: &[Mount],
) -> Result<(), Error> {
    let of_dev = mounts.iter().rfind(|mount| mount.destination() == Path::new("/dev"));
    if of_dev.and_then(|mount| mount.typ().as_deref()) != Some("tmpfs") {
        return Ok(());
    }
    let dev = Root::new(root)
        .open_without_links(Path::new("/dev"), OFlags::RDONLY | OFlags::DIRECTORY)
        .during("open", "/dev of the container")?;
    make_default(dev.as_fd(), (0, 0))?;
    let root = Root::new(root);
    devices.iter().try_for_each(|device| create_one(root, device.path(), device, (0, 0)))
}

/// Fills a `/dev` that is not attached yet, for those whose root is `owner`.
pub(super) fn fill(
    dev: BorrowedFd<'_>,
    devices: &[LinuxDevice],
    owner: (u32, u32),
) -> Result<(), Error> {
    make_default(dev, owner)?;
    devices.iter().try_for_each(|device| {
        let path = device.path();
        let Ok(below) = path.strip_prefix("/dev") else {
            let reason = format!("{path:?} must lie in /dev of a pod with a user namespace");
            return Err(Error::spec("linux.devices", reason));
        };
        create_one(Root::new(dev), &Path::new("/").join(below), device, owner)
    })
}

fn make_default(dev: BorrowedFd<'_>, owner: (u32, u32)) -> Result<(), Error> {
    for (name, major, minor) in DEFAULT {
        let mode = Mode::from_raw_mode(0o666);
        let device = rustix::fs::makedev(major, minor);
        node(dev, Path::new(name), FileType::CharacterDevice, mode, device)
            .during("create device", format_args!("/dev/{name}"))?;
        give(dev, Path::new(name), owner)?;
    }
    for (name, target) in LINKS {
        match symlinkat(target, dev, name) {
            Err(rustix::io::Errno::EXIST) => {}
            result => result.during("create link", format_args!("/dev/{name}"))?,
        }
    }
    Ok(())
}

fn create_one(
    root: Root<'_>,
    path: &Path,
    device: &LinuxDevice,
    owner: (u32, u32),
) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::spec("linux.devices", format!("{path:?} names no device")));
    };
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => {
            return Err(Error::spec("linux.devices", format!("{path:?} needs a type: b, c or p")));
        }
    };
    let mode = Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o7777);
    let number = rustix::fs::makedev(device.major() as u32, device.minor() as u32);
    let directory = root
        .make_directory(parent, Mode::from_raw_mode(0o755))
        .during("create", parent.display())?;
    node(directory.as_fd(), Path::new(name), kind, mode, number)
        .during("create device", path.display())?;
    let of_host = |id: u32, root: u32| id.saturating_add(root);
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    give(directory.as_fd(), Path::new(name), (of_host(uid, owner.0), of_host(gid, owner.1)))
}

fn give(directory: BorrowedFd<'_>, name: &Path, owner: (u32, u32)) -> Result<(), Error> {
    if owner == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
    chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .during("change owner of device", name.display())
}

/// A node with exactly this mode: the umask is empty here, and a `chmod` by name might meet a
/// link that somebody else has put there. One of that name stays as it is.
fn node(
    directory: BorrowedFd<'_>,
    name: &Path,
    kind: FileType,
    mode: Mode,
    device: u64,
) -> rustix::io::Result<()> {
    match mknodat(directory, name, kind, mode, device) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        result => result,
    }
}
