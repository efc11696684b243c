//! Mounts: an overlay on the configured disk, and what the kernel can do with mounts that
//! are attached nowhere.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags,
        OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
        mount, mount_change, open_tree,
    },
};

use super::{
    disk::{Place, Scratch},
    finding::{Finding, aside},
};
use crate::sys::{
    clone::unshare,
    mount::{MountAttributes, idmap, mount_setattr},
};

/// Tries them all.
pub(super) fn survey(place: &Place, user_namespace: io::Result<OwnedFd>) -> Vec<Finding> {
    let mut findings = vec![
        Finding::required("new mount API", detached_tmpfs().map(drop), OLD_KERNEL),
        Finding::required("recursive read-only", read_only_tree(), OLD_KERNEL),
    ];
    findings.extend(overlay(place));
    findings.push(idmapped(place, user_namespace));
    findings
}

const OLD_KERNEL: &str = "run as root on a kernel of 5.15 or later";

fn detached_tmpfs() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Makes a whole tree of mounts read-only in one call, and tries to write.
fn read_only_tree() -> io::Result<()> {
    let mount = detached_tmpfs()?;
    let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() };
    mount_setattr(mount.as_fd(), attributes, true)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(&mount, "file", flags, Mode::RUSR) {
        Err(rustix::io::Errno::ROFS) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(io::Error::other("a file could be made on a read-only mount")),
    }
}

/// An overlay of two layers, with the options that containers get.
fn overlay(place: &Place) -> Vec<Finding> {
    let mend = "use a disk with ext4 or xfs for root, on a kernel with CONFIG_OVERLAY_FS";
    let layers = match Layers::make(place) {
        Ok(layers) => layers,
        Err(error) => return vec![Finding::required("overlay", Err(error), mend)],
    };
    let by_layer = layers.mount_by_layer();
    let one_by_one = by_layer.is_ok();
    let tried = match by_layer {
        Ok(mount) => layers.use_mount(mount.as_fd()),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => layers.try_by_string(),
        Err(error) => Err(error),
    };
    let works = tried.is_ok();
    let mut findings = vec![Finding::required("overlay", tried, mend)];
    if works && !one_by_one {
        findings.push(Finding::warn(
            "overlay lowerdir+",
            "layers are named in one string",
            "works; a kernel of 6.7 or later takes them one by one, without a limit of length",
        ));
    } else if works {
        findings.push(Finding::ok("overlay lowerdir+", "works, with volatile"));
    }
    findings
}

/// Layers on the disk of the configured root.
struct Layers {
    scratch: Scratch,
}

impl Layers {
    fn make(place: &Place) -> io::Result<Self> {
        let layers = Self { scratch: place.scratch()? };
        for name in ["one", "two", "upper", "work", "mount"] {
            fs::create_dir(layers.at(name))?;
        }
        fs::write(layers.at("one").join("kept"), "one")?;
        fs::write(layers.at("two").join("kept"), "two")?;
        fs::write(layers.at("two").join("removed"), "two")?;
        Ok(layers)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path.join(name)
    }

    fn mount_by_layer(&self) -> io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, name: &str| fsconfig_set_string(context.as_fd(), key, self.at(name));
        set("lowerdir+", "one")?;
        set("lowerdir+", "two")?;
        set("upperdir", "upper")?;
        set("workdir", "work")?;
        fsconfig_set_flag(context.as_fd(), "volatile")?;
        fsconfig_create(context.as_fd())?;
        Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
    }

    /// As `mount(2)` takes it, in a mount namespace that ends with its thread.
    fn try_by_string(&self) -> io::Result<()> {
        let [one, two, upper, work] =
            ["one", "two", "upper", "work"].map(|name| self.at(name).display().to_string());
        let data = format!("lowerdir={one}:{two},upperdir={upper},workdir={work},volatile");
        let data = CString::new(data)?;
        let target = self.at("mount");
        let mounted = aside(move || {
            unshare(libc::CLONE_NEWNS)?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            mount("overlay", &target, "overlay", MountFlags::empty(), Some(data.as_c_str()))?;
            File::open(&target)
        })?;
        self.use_mount(mounted.as_fd())
    }

    /// Reads, writes and removes, and looks for what that must leave in the upper directory.
    fn use_mount(&self, root: BorrowedFd<'_>) -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mut kept = File::from(openat(root, "kept", flags, Mode::empty())?);
        let text = io::read_to_string(&kept)?;
        io::Write::write_all(&mut kept, b" and more")?;
        unlinkat(root, "removed", AtFlags::empty())?;
        let copied = fs::read_to_string(self.at("upper").join("kept"))?;
        let whiteout = fs::symlink_metadata(self.at("upper").join("removed"))?;
        let is_whiteout = whiteout.file_type().is_char_device() && whiteout.rdev() == 0;
        if text != "one" || copied != "one and more" || !is_whiteout {
            return Err(io::Error::other("layers do not lie one over the other as they should"));
        }
        Ok(())
    }
}

pub(super) fn try_idmap(directory: &Path, namespace: &OwnedFd) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, directory, flags)?;
    idmap(mount.as_fd(), namespace.as_fd(), false)
}

/// A copy of the disk's mount on which files belong to others.
fn idmapped(place: &Place, user_namespace: io::Result<OwnedFd>) -> Finding {
    let tried = user_namespace.and_then(|namespace| try_idmap(&place.directory, &namespace));
    Finding::useful(
        "idmapped mounts",
        tried,
        "pods with hostUsers: false need them; use ext4, xfs or btrfs on a kernel of 5.19 or later",
    )
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::{Layers, Place, read_only_tree};

    /// Either way of naming layers, whichever this kernel would need.
    #[test]
    fn an_overlay_is_tried_in_both_ways() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: this test mounts and needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of(directory.path());
        let layers = Layers::make(&place).unwrap();
        let mount = layers.mount_by_layer().unwrap();
        layers.use_mount(mount.as_fd()).unwrap();
        drop((mount, layers));
        Layers::make(&place).unwrap().try_by_string().unwrap();
        read_only_tree().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
