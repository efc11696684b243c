//! Paths that a stranger has a say in, resolved beneath a root with `openat2(2)`.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, openat2, readlinkat};

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

    /// The directory itself.
    pub fn directory(&self) -> BorrowedFd<'fd> {
        self.directory
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

    /// Opens a file to append to, making it where it is absent, with parent directories that
    /// are there. Never waits, as the open of a FIFO would.
    ///
    /// # Errors
    /// Those of `openat2(2)`; `ELOOP` where the file is a symbolic link, `EINVAL` where it is
    /// no regular file.
    pub fn append(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = retry(|| openat2(self.directory, path, flags, mode, resolve))?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(rustix::io::Errno::INVAL.into());
        }
        Ok(file)
    }

    fn open_with(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        let flags = flags | OFlags::CLOEXEC;
        retry(|| openat2(self.directory, path, flags, Mode::empty(), resolve))
    }

    /// Opens a directory (`O_PATH`), making it and its parents where they are absent. What a
    /// link names is made too: images ship `/var/run` as a link to a `/run` that is not there.
    ///
    /// # Errors
    /// Those of `openat2(2)` and `mkdirat(2)`; `ENOTDIR` where a part is not a directory,
    /// `ELOOP` where links lead in a circle.
    pub fn make_directory(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        self.make_directory_within(path, mode, MOST_LINKS)
    }

    fn make_directory_within(&self, path: &Path, mode: Mode, links: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let (parent_path, name) = split(path)?;
        let parent = self.make_directory_within(&parent_path, mode, links)?;
        let Some(name) = name else { return self.open(path, flags) };
        match mkdirat(parent.as_fd(), name.as_path(), mode) {
            Ok(()) => self.open(path, flags),
            Err(rustix::io::Errno::EXIST) => match link_target(parent.as_fd(), &name)? {
                Some(target) => {
                    self.make_directory_within(&parent_path.join(target), mode, fewer(links)?)
                }
                None => self.open(path, flags),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file of any type (`O_PATH`), making an empty regular one, and its parent
    /// directories, where it is absent; where a link names it, that which the link names.
    ///
    /// # Errors
    /// Those of `openat2(2)` and `mkdirat(2)`; `ELOOP` where links lead in a circle.
    pub fn make_file(&self, path: &Path) -> io::Result<OwnedFd> {
        self.make_file_within(path, MOST_LINKS)
    }

    fn make_file_within(&self, path: &Path, links: u32) -> io::Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let (parent_path, Some(name)) = split(path)? else { return Err(no_last_name()) };
        let mode = Mode::from_raw_mode(0o755);
        let parent = self.make_directory_within(&parent_path, mode, links)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        match rustix::fs::openat(parent.as_fd(), name.as_path(), flags, mode) {
            Ok(_) => self.open(path, OFlags::PATH),
            Err(rustix::io::Errno::EXIST) => match link_target(parent.as_fd(), &name)? {
                Some(target) => self.make_file_within(&parent_path.join(target), fewer(links)?),
                None => self.open(path, OFlags::PATH),
            },
            Err(error) => Err(error.into()),
        }
    }
}

/// EAGAIN: a rename elsewhere made the kernel unsure of a `..`; it asks to try again.
fn retry(open: impl Fn() -> rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    loop {
        match open() {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

fn fewer(links: u32) -> io::Result<u32> {
    links.checked_sub(1).ok_or_else(|| rustix::io::Errno::LOOP.into())
}

/// What a link names; none for anything else.
fn link_target(directory: BorrowedFd<'_>, name: &Path) -> io::Result<Option<PathBuf>> {
    match readlinkat(directory, name, Vec::new()) {
        Ok(target) => Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes())))),
        Err(rustix::io::Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Parent and last name of a path that names something below the root; no name where it ends
/// with `..`, which is there once its parent is.
fn split(path: &Path) -> io::Result<(PathBuf, Option<PathBuf>)> {
    let parent = || path.parent().unwrap_or(Path::new("/")).to_owned();
    match path.components().next_back() {
        Some(Component::Normal(name)) => Ok((parent(), Some(PathBuf::from(name)))),
        Some(Component::ParentDir) => Ok((parent(), None)),
        _ => Err(no_last_name()),
    }
}

fn no_last_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "path has no last name")
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
    fn what_a_link_names_is_made() {
        let (outer, root) = directory();
        let mode = Mode::from_raw_mode(0o755);
        let base = outer.path().join("root");
        fs::create_dir_all(base.join("etc")).unwrap();
        symlink("/run", base.join("var")).unwrap();
        symlink("../run/resolve/stub", base.join("etc/resolv.conf")).unwrap();
        symlink("../../../../far/file", base.join("etc/hosts")).unwrap();
        symlink("loop", base.join("etc/loop")).unwrap();
        let root = Root::new(root.as_fd());
        root.make_directory(Path::new("/var/secrets"), mode).unwrap();
        root.make_file(Path::new("/etc/resolv.conf")).unwrap();
        root.make_file(Path::new("/etc/hosts")).unwrap();
        assert!(base.join("run/secrets").is_dir());
        assert!(base.join("run/resolve/stub").is_file());
        assert!(base.join("far/file").is_file());
        assert!(root.make_file(Path::new("/etc/loop")).is_err());
        assert!(root.make_directory(Path::new("/etc/loop/x"), mode).is_err());
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
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
