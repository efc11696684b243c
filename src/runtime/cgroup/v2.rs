//! A cgroup on the unified hierarchy.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    super::error::{During, Error},
    ROOT, keyed_number, text_of, tree, write,
};

/// A directory of the unified hierarchy, held open.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

impl Cgroup {
    /// Makes the cgroup, and its parents with every controller handed down.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let mut directory = PathBuf::from(ROOT);
        for name in path {
            hand_down_controllers(&directory)?;
            directory.push(name);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.during("create cgroup", directory.display())?,
            }
        }
        Self::at(directory)
    }

    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Self::at(Path::new(ROOT).join(path))
    }

    pub(super) fn create_child(&self, name: &str) -> Result<Self, Error> {
        let path = self.path.join(name);
        fs::create_dir(&path).during("create cgroup", path.display())?;
        let child = Self::at(path)?;
        child.follow_threads()?;
        Ok(child)
    }

    /// Where this one lies in a cgroup that has become the root of threaded ones, which whoever
    /// manages it may do, it takes processes only as a threaded one (cgroup-v2.rst, "Threads").
    fn follow_threads(&self) -> Result<(), Error> {
        let file = self.file("cgroup.type");
        let kind = text_of(&file).during("read", file.display())?.unwrap_or_default();
        if kind.trim() == "domain invalid" {
            write(&file, "threaded").during("write", file.display())?;
        }
        Ok(())
    }

    /// Hands every controller down to what lies below.
    pub(super) fn hand_down(&self) -> Result<(), Error> {
        hand_down_controllers(&self.path)
    }

    fn at(path: PathBuf) -> Result<Self, Error> {
        let directory = File::open(&path).during("open cgroup", path.display())?.into();
        Ok(Self { path, directory })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `cgroup.kill` (since 5.14) ends everything here and below, also what forks meanwhile.
    pub(super) fn kill(&self) -> Result<(), Error> {
        let file = self.file("cgroup.kill");
        match write(&file, "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A threaded one has only threads of processes, as the kernel sees it.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.kill_threads(),
            result => result.during("kill cgroup", self.path.display()),
        }
    }

    /// The same of a threaded cgroup: a signal to a thread is one to its process.
    fn kill_threads(&self) -> Result<(), Error> {
        for directory in tree(&self.path).during("read cgroup", self.path.display())? {
            let file = directory.join("cgroup.threads");
            let threads = text_of(&file).during("read", file.display())?.unwrap_or_default();
            let threads = threads.lines().filter_map(|line| line.trim().parse().ok());
            for thread in threads.filter_map(Pid::from_raw) {
                // It may have ended by now.
                let _ = kill_process(thread, Signal::KILL);
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        let file = self.file("cgroup.events");
        let text = text_of(&file).during("read", file.display())?;
        Ok(text.is_none_or(|text| keyed_number(&text, "populated") == Some(0)))
    }
}

/// Enables in `cgroup.subtree_control` what `cgroup.controllers` offers and is not yet on.
/// Without this the files of the limits are missing in the children.
fn hand_down_controllers(directory: &Path) -> Result<(), Error> {
    let read = |name: &str| {
        let file = directory.join(name);
        fs::read_to_string(&file).during("read", file.display())
    };
    let offered = read("cgroup.controllers")?;
    let enabled = read("cgroup.subtree_control")?;
    let missing: Vec<String> = offered
        .split_whitespace()
        .filter(|name| !enabled.split_whitespace().any(|other| other == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let file = directory.join("cgroup.subtree_control");
    if write(&file, &missing.join(" ")).is_ok() {
        return Ok(());
    }
    // Together they are refused when one is, such as a threaded or a busy one. What a
    // container does not limit may stay off, so a failure here is not one of the container.
    for one in &missing {
        let _ = write(&file, one);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Cgroup;

    #[test]
    fn a_cgroup_that_cannot_be_read_is_not_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::at(directory.path().to_owned()).unwrap();
        assert!(cgroup.is_empty().unwrap(), "it is gone");
        let events = directory.path().join("cgroup.events");
        for (text, empty) in [("populated 0\nfrozen 0\n", true), ("populated 1\n", false)] {
            fs::write(&events, text).unwrap();
            assert_eq!(cgroup.is_empty().unwrap(), empty, "{text}");
        }
        fs::remove_file(&events).unwrap();
        fs::create_dir(&events).unwrap();
        assert!(cgroup.is_empty().is_err());
    }
}
