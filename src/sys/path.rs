//! Paths that a stranger has a say in, resolved beneath a root with `openat2(2)`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};

/// A directory that no path leads out of: absolute paths, `..` and symbolic links all stay
/// inside, as if it were the root of a `chroot(2)`.
#[derive(Debug, Clone, Copy)]
pub struct Root<'fd> {
    directory: BorrowedFd<'fd>,
}

impl<'fd> Root<'fd> {
    /// The root that the descriptor refers to.
    pub fn new(directory: BorrowedFd<'fd>) -> Self {
        Self { directory }
    }

    /// Opens a path inside the root.
    ///
    /// # Errors
    /// Those of `openat2(2)`.
    pub fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::empty())
    }

    /// Opens a path none of whose parts may be a symbolic link.
    ///
    /// # Errors
    /// Those of `openat2(2)`; `ELOOP` at a symbolic link.
    pub fn open_without_links(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    fn open_with(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        let flags = flags | OFlags::CLOEXEC;
        // EAGAIN: a rename elsewhere made the kernel unsure of a `..`; it asks to try again.
        loop {
            match openat2(self.directory, path, flags, Mode::empty(), resolve) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Opens a directory (`O_PATH`), making it and its parents where they are absent.
    ///
    /// # Errors
    /// Those of `openat2(2)` and `mkdirat(2)`; `ENOTDIR` where a part is not a directory.
    pub fn make_directory(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let (parent, name) = split(path)?;
        let parent = self.make_directory(&parent, mode)?;
        match mkdirat(parent.as_fd(), name.as_path(), mode) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.open(path, flags),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file of any type (`O_PATH`), making an empty regular one, and its parent
    /// directories, where it is absent.
    ///
    /// # Errors
    /// Those of `openat2(2)` and `mkdirat(2)`.
    pub fn make_file(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let (parent, name) = split(path)?;
        let parent = self.make_directory(&parent, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        match rustix::fs::openat(parent.as_fd(), name.as_path(), flags, mode) {
            Ok(_) | Err(rustix::io::Errno::EXIST) => self.open(path, OFlags::PATH),
            Err(error) => Err(error.into()),
        }
    }
}

/// Parent and last name of a path that names something below the root.
fn split(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    match path.components().next_back() {
        Some(Component::Normal(name)) => {
            Ok((path.parent().unwrap_or(Path::new("/")).to_owned(), PathBuf::from(name)))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "path has no last name")),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd, os::unix::fs::symlink, path::Path};

    use rustix::fs::{Mode, OFlags};

    use super::Root;

    fn directory() -> (tempfile::TempDir, std::fs::File) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        let root = fs::File::open(directory.path().join("root")).unwrap();
        (directory, root)
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (outer, root) = directory();
        fs::write(outer.path().join("secret"), "x").unwrap();
        symlink(outer.path().join("secret"), outer.path().join("root/absolute")).unwrap();
        symlink("../secret", outer.path().join("root/relative")).unwrap();
        for path in ["absolute", "relative", "../secret", "/../secret"] {
            let error = Root::new(root.as_fd()).open(Path::new(path), OFlags::RDONLY).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{path}");
        }
    }

    #[test]
    fn parents_are_made_through_links_inside() {
        let (outer, root) = directory();
        let mode = Mode::from_raw_mode(0o755);
        symlink("/run", outer.path().join("root/var")).unwrap();
        fs::create_dir(outer.path().join("root/run")).unwrap();
        Root::new(root.as_fd()).make_directory(Path::new("/var/a/b"), mode).unwrap();
        Root::new(root.as_fd()).make_file(Path::new("/var/a/c/file")).unwrap();
        assert!(outer.path().join("root/run/a/b").is_dir());
        assert!(outer.path().join("root/run/a/c/file").is_file());
    }

    #[test]
    fn a_link_is_refused_where_none_may_be() {
        let (outer, root) = directory();
        symlink("/", outer.path().join("root/proc")).unwrap();
        let root = Root::new(root.as_fd());
        assert!(root.open_without_links(Path::new("/proc"), OFlags::PATH).is_err());
        assert!(root.open(Path::new("/proc"), OFlags::PATH).is_ok());
    }
}
