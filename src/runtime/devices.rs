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
    let root = Root::new(root);
    let dev = root
        .open_without_links(Path::new("/dev"), OFlags::RDONLY | OFlags::DIRECTORY)
        .during("open", "/dev of the container")?;
    for (name, major, minor) in DEFAULT {
        let mode = Mode::from_raw_mode(0o666);
        let device = rustix::fs::makedev(major, minor);
        node(dev.as_fd(), Path::new(name), FileType::CharacterDevice, mode, device)
            .during("create device", format_args!("/dev/{name}"))?;
    }
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            Err(rustix::io::Errno::EXIST) => {}
            result => result.during("create link", format_args!("/dev/{name}"))?,
        }
    }
    devices.iter().try_for_each(|device| create_one(root, device))
}

fn create_one(root: Root<'_>, device: &LinuxDevice) -> Result<(), Error> {
    let path = device.path();
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
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    if (uid, gid) != (0, 0) {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&directory, Path::new(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .during("change owner of", path.display())?;
    }
    Ok(())
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
