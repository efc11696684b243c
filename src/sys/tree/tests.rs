use std::{
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
};

use rustix::{
    fs::{CWD, IFlags, Mode, OFlags, ioctl_setflags, lgetxattr, openat},
    thread::{CapabilitySet, capabilities, set_capabilities},
};

use super::{MOST_OPEN, copy, label, relabel, remove_at, set_label, usage_at};

fn open(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Directories in each other, with a file in each but the last. They are made from the inside
/// out: the kernel takes longer for what lies deep.
fn nest(root: &Path, depth: usize) {
    let outer = root.with_extension("outer");
    fs::create_dir(root).unwrap();
    for _ in 0..depth {
        fs::create_dir(&outer).unwrap();
        fs::write(outer.join("file"), "").unwrap();
        fs::rename(root, outer.join("d")).unwrap();
        fs::rename(&outer, root).unwrap();
    }
}

#[test]
fn a_tree_of_twenty_thousand_levels_is_counted_and_removed() {
    // In memory: ext4 is slow to make what it has just removed so much of.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = directory.path().join("root");
    nest(&root, 20_000);
    // On a stack that a walk which calls itself would overrun.
    let walk = move || {
        assert_eq!(usage_at(&root).unwrap().inodes, 40_001);
        remove_at(&root).unwrap();
        assert!(root.symlink_metadata().is_err());
    };
    std::thread::Builder::new().stack_size(128 * 1024).spawn(walk).unwrap().join().unwrap();
}

#[test]
fn a_deep_tree_with_names_like_those_of_moved_directories_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    nest(&root, MOST_OPEN * 3);
    fs::write(root.join(".deep-0"), "").unwrap();
    fs::create_dir_all(root.join(".deep-1/full")).unwrap();
    remove_at(&root).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_wide_tree_is_counted_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    for number in 0..3_000 {
        fs::create_dir_all(root.join(format!("{number}/inner"))).unwrap();
        fs::write(root.join(format!("{number}/file")), "").unwrap();
    }
    assert_eq!(usage_at(&root).unwrap().inodes, 9_001);
    remove_at(&root).unwrap();
    assert!(root.symlink_metadata().is_err());
}

#[test]
fn links_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let (root, outside) = (directory.path().join("root"), directory.path().join("outside"));
    fs::create_dir_all(outside.join("kept")).unwrap();
    fs::create_dir_all(root.join("a")).unwrap();
    symlink(&outside, root.join("a/link")).unwrap();
    symlink("..", root.join("a/up")).unwrap();
    assert_eq!(usage_at(&root).unwrap().inodes, 4);
    remove_at(&root).unwrap();
    symlink(&outside, &root).unwrap();
    assert!(usage_at(&root).is_err());
    remove_at(&root).unwrap();
    assert!(root.symlink_metadata().is_err());
    assert!(outside.join("kept").is_dir());
}

#[test]
fn what_is_not_there_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    remove_at(&directory.path().join("absent")).unwrap();
    remove_at(&directory.path().join("absent/below")).unwrap();
    let parent = open(directory.path());
    for path in ["a/b", "..", "", "/"] {
        assert!(super::remove(parent.as_fd(), Path::new(path)).is_err(), "{path:?}");
    }
}

#[test]
fn files_count_once_whatever_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("a")).unwrap();
    fs::write(root.join("a/file"), vec![1; 10_000]).unwrap();
    let alone = usage_at(&root).unwrap();
    for name in ["b", "c", "a/d"] {
        fs::hard_link(root.join("a/file"), root.join(name)).unwrap();
    }
    assert_eq!(usage_at(&root).unwrap(), alone);
    assert_eq!(alone.inodes, 3);
    let blocks = |path: &Path| path.metadata().unwrap().blocks() * 512;
    let bytes = [root.join(""), root.join("a"), root.join("a/file")].map(|path| blocks(&path));
    assert_eq!(alone.bytes, bytes.iter().sum::<u64>());
}

/// A daemon without `CAP_DAC_OVERRIDE` is the owner of what it removes, and nothing more.
#[test]
fn modes_that_forbid_it_are_changed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    nest(&root, MOST_OPEN + 3);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(&root.join("d/d/d"), 0).unwrap();
    mode(&root.join("d/d"), 0o500).unwrap();
    mode(&root.join("d"), 0o100).unwrap();
    let without_override = move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).unwrap();
        assert!(fs::remove_dir_all(&root).is_err());
        remove_at(&root).unwrap();
        assert!(root.symlink_metadata().is_err());
    };
    // Capabilities are those of one thread.
    std::thread::spawn(without_override).join().unwrap();
}

#[test]
fn attributes_that_forbid_it_are_cleared() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/file"), "").unwrap();
    for path in ["a/file", "a/b", "a"] {
        let file = open(&root.join(path));
        if let Err(error) = ioctl_setflags(&file, IFlags::IMMUTABLE) {
            eprintln!("SKIPPED: no immutable files here: {error}");
        }
    }
    remove_at(&root).unwrap();
    assert!(root.symlink_metadata().is_err());
}

#[test]
fn what_is_mounted_inside_stays() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("a/mount")).unwrap();
    fs::write(root.join("a/file"), "").unwrap();
    let outside = directory.path().join("outside");
    fs::create_dir_all(outside.join("kept")).unwrap();
    let inside = {
        let root = root.clone();
        move || {
            // A namespace of its own, so that nothing is mounted on the machine.
            if let Err(error) = crate::sys::clone::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) {
                return eprintln!("SKIPPED: no mount namespace: {error}");
            }
            use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            mount_bind(&outside, root.join("a/mount")).unwrap();
            assert_eq!(usage_at(&root).unwrap().inodes, 4);
            let error = remove_at(&root).unwrap_err();
            let kind = error.raw_os_error();
            assert!(matches!(kind, Some(libc::EXDEV | libc::EBUSY)), "{error}");
            assert!(outside.join("kept").is_dir());
            assert!(!root.join("a/file").exists());
        }
    };
    std::thread::spawn(inside).join().unwrap();
    remove_at(&root).unwrap();
    assert!(root.symlink_metadata().is_err());
}

/// Copies `from` into a new directory `to`.
fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    let links = to.with_extension("links");
    fs::create_dir(to).unwrap();
    fs::create_dir(&links).unwrap();
    let copied = copy(open(from).as_fd(), open(to).as_fd(), open(&links).as_fd());
    fs::remove_dir_all(links).unwrap();
    copied
}

#[test]
fn a_copy_is_what_the_tree_was() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    fs::create_dir_all(from.join("inner")).unwrap();
    fs::write(from.join("file"), "text").unwrap();
    fs::hard_link(from.join("file"), from.join("inner/same")).unwrap();
    symlink("/etc/passwd", from.join("link")).unwrap();
    let sparse = fs::File::create(from.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 1 << 30).unwrap();
    std::os::unix::fs::chown(from.join("file"), Some(1000), Some(50)).unwrap();
    fs::set_permissions(from.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(from.join("inner"), fs::Permissions::from_mode(0o2700)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(from.join("file"), "user.kept", b"value", flags).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(CWD, from.join("fifo"), fifo, 0o600.into(), 0).unwrap();

    copied(&from, &to).unwrap();
    for name in ["", "file", "inner", "inner/same", "link", "sparse", "fifo"] {
        let stat = |path: &Path| {
            let of = fs::symlink_metadata(path.join(name)).unwrap();
            (of.mode(), of.uid(), of.gid(), of.nlink(), of.mtime(), of.mtime_nsec(), of.size())
        };
        assert_eq!(stat(&from), stat(&to), "{name}");
    }
    assert_eq!(fs::read_to_string(to.join("inner/same")).unwrap(), "text");
    let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
    assert_eq!(inode("file"), inode("inner/same"));
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(to.join("file"), "user.kept", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"value");
    let blocks = fs::metadata(to.join("sparse")).unwrap().blocks();
    assert!(blocks < 1000, "a hole takes {blocks} blocks");
}

#[test]
fn a_deep_tree_is_copied() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    nest(&from, MOST_OPEN * 3);
    let before = usage_at(&from).unwrap().inodes;
    let (source, target) = (from.clone(), to.clone());
    let copy = move || copied(&source, &target).unwrap();
    std::thread::Builder::new().stack_size(256 * 1024).spawn(copy).unwrap().join().unwrap();
    assert_eq!(usage_at(&to).unwrap().inodes, before);
}

#[test]
fn what_is_mounted_inside_is_not_copied() {
    let inside = || {
        if let Err(error) = crate::sys::clone::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) {
            return eprintln!("SKIPPED: no mount namespace: {error}");
        }
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir_all(from.join("mount")).unwrap();
        mount("tmpfs", from.join("mount"), "tmpfs", MountFlags::empty(), None).unwrap();
        let error = copied(&from, &to).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
        let detach = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(from.join("mount"), detach).unwrap();
    };
    // A thread, so that the rest of the tests does not see the mount.
    std::thread::spawn(inside).join().unwrap();
}

/// Without SELinux the attribute is one like any other, for whoever may administer the machine.
#[test]
fn a_tree_is_relabelled_without_following_links() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: labels are set by root");
        return;
    }
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (root, outside) = (directory.path().join("root"), directory.path().join("outside"));
    // Of a link it is that of the link itself.
    let label_at = |path: &Path| {
        let mut buffer = [0; 256];
        let length = lgetxattr(path, "security.selinux", &mut buffer[..]).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    nest(&root, MOST_OPEN * 2);
    fs::write(&outside, "").unwrap();
    let first = root.join("d");
    symlink(&outside, first.join("link")).unwrap();
    set_label(open(&outside).as_fd(), "u:r:outside_t:s0").unwrap();
    set_label(open(&root).as_fd(), "u:r:root_t:s0").unwrap();

    let mut count = 0;
    let label_of_all = "u:r:new_t:s0:c1,c2";
    relabel(open(&root).as_fd(), label_of_all, || {
        count += 1;
        true
    })
    .unwrap();
    assert_eq!(label(open(&outside).as_fd()).unwrap(), "u:r:outside_t:s0");
    assert_eq!(label_at(&root), "u:r:root_t:s0", "the root is its caller's");
    assert_eq!(count, MOST_OPEN * 4 + 1, "directories, files, and the link");
    let mut deepest = root.clone();
    for _ in 0..MOST_OPEN * 2 {
        assert_eq!(label_at(&deepest.join("file")), label_of_all);
        deepest.push("d");
        assert_eq!(label_at(&deepest), label_of_all);
    }
    assert_eq!(label_at(&first.join("link")), label_of_all);

    let mut left = 3;
    relabel(open(&root).as_fd(), "u:r:given_up_t:s0", || {
        left -= 1;
        left > 0
    })
    .unwrap();
    assert_eq!(left, 0, "nothing is done once nobody wants it");
}
