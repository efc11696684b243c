//! Kernel settings below `/proc/sys`, by the names that people write.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

#[cfg(feature = "daemon")]
pub use own::own;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// Why a setting is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that leads elsewhere.
    #[error("{0:?} is not the name of a sysctl")]
    Name(String),
    /// The kernel, or the namespace, does not have it.
    #[error("this kernel has no sysctl {0}")]
    Absent(String),
    /// The kernel does not take it.
    #[error("the kernel refuses {value:?} for {name}: {source}")]
    Refused {
        /// The setting.
        name: String,
        /// What it was to be.
        value: String,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Opens one, by its path below the directory of settings: that of `/proc` where none is given.
///
/// # Errors
/// Those of `openat(2)`.
pub fn open(
    directory: Option<BorrowedFd<'_>>,
    relative: &Path,
    access: OFlags,
) -> io::Result<OwnedFd> {
    let flags = access | OFlags::CLOEXEC;
    Ok(match directory {
        Some(directory) => openat(directory, relative, flags, Mode::empty()),
        None => openat(CWD, Path::new("/proc/sys").join(relative), flags, Mode::empty()),
    }?)
}

/// Sets one. Those of networks and IPC belong to the namespaces of the calling thread.
///
/// # Errors
/// Where it is not there, or the kernel does not take the value.
pub fn set(directory: Option<BorrowedFd<'_>>, name: &str, value: &str) -> Result<(), Error> {
    let relative = path(name);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Error::Name(name.to_owned()));
    }
    let file = open(directory, &relative, OFlags::WRONLY).map(File::from);
    let refused =
        |source| Error::Refused { name: name.to_owned(), value: value.to_owned(), source };
    match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Absent(name.to_owned()))
        }
        file => file.and_then(|mut file| file.write_all(value.as_bytes())).map_err(refused),
    }
}

#[cfg(feature = "daemon")]
mod own {
    //! A directory of settings that remembers few namespaces.
    //!
    //! Each network namespace has a `net` of its own in `/proc/sys`, all under one name in the
    //! kernel's table of names, so that whoever looks for one looks at those of all namespaces
    //! that anybody has ever asked about and that are still there: a millisecond for each pod where
    //! there are some hundred. What an instance of procfs of our own has noted the kernel
    //! forgets when it is told to.

    use std::{
        io,
        os::fd::{AsFd, BorrowedFd, OwnedFd},
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
    };

    use rustix::{
        fs::{Mode, OFlags, openat},
        mount::{
            FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create,
            fsconfig_reconfigure, fsmount, fsopen, fspick,
        },
    };

    /// Namespaces that are looked at until all are forgotten.
    const MANY: u32 = 32;

    struct Settings {
        root: OwnedFd,
        directory: OwnedFd,
        looks: AtomicU32,
    }

    /// The directory of settings for one look at a namespace; none where the kernel gives none
    /// (before Linux 5.2), and that of `/proc` will do.
    pub fn own() -> Option<BorrowedFd<'static>> {
        static SETTINGS: OnceLock<Option<Settings>> = OnceLock::new();
        let settings = SETTINGS.get_or_init(|| Settings::open().ok()).as_ref()?;
        if settings.looks.fetch_add(1, Ordering::Relaxed) % MANY == MANY - 1 {
            // What is in use stays, and what stays costs time alone.
            let _ = settings.forget();
        }
        Some(settings.directory.as_fd())
    }

    impl Settings {
        fn open() -> io::Result<Self> {
            let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(context.as_fd())?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = openat(&root, "sys", flags, Mode::empty())?;
            Ok(Self { root, directory, looks: AtomicU32::new(0) })
        }

        /// `reconfigure_super` of `fs/super.c` drops the names that nobody uses.
        fn forget(&self) -> io::Result<()> {
            let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
            let instance = fspick(&self.root, "", flags)?;
            Ok(fsconfig_reconfigure(instance.as_fd())?)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::Settings;

        #[test]
        fn settings_can_be_opened_again_after_they_were_forgotten() {
            let settings = match Settings::open() {
                Ok(settings) => settings,
                Err(error) => return eprintln!("SKIPPED: an instance of procfs: {error}"),
            };
            for _ in 0..2 {
                let access = rustix::fs::OFlags::RDONLY;
                let directory = std::os::fd::AsFd::as_fd(&settings.directory);
                let path = std::path::Path::new("net/ipv4/ip_forward");
                super::super::open(Some(directory), path, access).unwrap();
                settings.forget().unwrap();
            }
        }
    }
}

/// Whether it is one of the network namespace.
pub fn is_of_network(name: &str) -> bool {
    path(name).starts_with("net")
}

/// `net.ipv4.conf.eth0/1.x` and `net/ipv4/conf/eth0.1/x` name the same file: the first of the
/// two separators in the name decides which one it is (`sysctl.d(5)`).
fn path(name: &str) -> PathBuf {
    match name.find(['.', '/']).map(|at| &name[at..=at]) {
        Some(".") => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect::<String>()
            .into(),
        _ => PathBuf::from(name),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_of_network, path, set};

    #[test]
    fn both_ways_to_write_a_sysctl() {
        for name in ["net.ipv4.conf.eth0/1.x", "net/ipv4/conf/eth0.1/x"] {
            assert_eq!(path(name), Path::new("net/ipv4/conf/eth0.1/x"));
            assert!(is_of_network(name));
        }
        assert!(!is_of_network("kernel.shm_rmid_forced") && !is_of_network("network.x"));
    }

    #[test]
    fn a_sysctl_cannot_leave_its_directory() {
        let error = set(None, "net/../../sysrq-trigger", "1").unwrap_err();
        assert!(error.to_string().contains("not the name"), "{error}");
        let error = set(None, "net.no.such", "1").unwrap_err();
        assert!(error.to_string().contains("no sysctl"), "{error}");
    }
}
