//! Device nodes and links in a container's `/dev`.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstatfs, mknodat, symlinkat,
};

use super::error::{During, Error};
use crate::sys::path::Root;

const TMPFS_MAGIC: u64 = 0x0102_1994;

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
/// left as it is.
pub(super) fn create(root: BorrowedFd<'_>, devices: &[LinuxDevice]) -> Result<(), Error> {
    let root = Root::new(root);
    let dev = root
        .open_without_links(Path::new("/dev"), OFlags::RDONLY | OFlags::DIRECTORY)
        .during("open", "/dev of the container")?;
    if fstatfs(&dev).during("inspect", "/dev of the container")?.f_type as u64 != TMPFS_MAGIC {
        return Ok(());
    }
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

/// A node with exactly this mode, whatever the umask. One of that name stays as it is.
fn node(
    directory: BorrowedFd<'_>,
    name: &Path,
    kind: FileType,
    mode: Mode,
    device: u64,
) -> rustix::io::Result<()> {
    match mknodat(directory, name, kind, mode, device) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Ok(()) => chmodat(directory, name, mode, AtFlags::empty()),
        Err(error) => Err(error),
    }
}
