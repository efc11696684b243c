//! cgroups: one small interface over version 2 and version 1.
//!
//! A [`Cgroup`] is made with its limits before the process that it is for, and is removed
//! after it. On v2 a process starts in it (`CLONE_INTO_CGROUP`); on v1 the child joins by
//! writing to `tasks`, which unlike `cgroup.procs` takes no lock over all processes
//! (kernel, `cgroup_procs_write_start`).

mod apply;
mod block_io;
mod devices;
mod settings;
mod v1;
mod v2;

use std::{
    fs, io,
    os::{fd::BorrowedFd, unix::fs::chown},
    path::{Path, PathBuf},
    time::Duration,
};

use oci_spec::runtime::LinuxResources;
use rustix::fs::statfs;

use super::error::{During, Error};

pub use settings::weight_of_shares;

/// Where the kernel's cgroup filesystems are mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// The version that this node runs on. A hybrid node counts as v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

impl Version {
    /// What is mounted at [`ROOT`].
    ///
    /// # Errors
    /// `NotFound` where no cgroups are: that none can be seen does not mean that none is there.
    pub fn detect() -> io::Result<Self> {
        let magic = statfs(ROOT)?.f_type as u64;
        match magic == CGROUP2_MAGIC {
            true => Ok(Version::V2),
            false if v1::is_mounted()? => Ok(Version::V1),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "no cgroups are mounted")),
        }
    }
}

/// One cgroup.
#[derive(Debug)]
pub enum Cgroup {
    /// On the unified hierarchy.
    V2(v2::Cgroup),
    /// The same path on every v1 hierarchy.
    V1(v1::Cgroup),
}

impl Cgroup {
    /// Makes the cgroup at `path` (absolute, as the processes' `/proc/PID/cgroup` shows it)
    /// with its parents, and sets its limits. One that is there already is taken over. On
    /// failure nothing is left of it.
    ///
    /// # Errors
    /// When it cannot be made, or a limit cannot be set.
    pub fn create(
        version: Version,
        path: &Path,
        resources: Option<&LinuxResources>,
    ) -> Result<Self, Error> {
        let path = relative(path)?;
        let cgroup = match version {
            Version::V2 => Cgroup::V2(v2::Cgroup::create(&path)?),
            Version::V1 => Cgroup::V1(v1::Cgroup::create(&path)?),
        };
        let limited = resources.map_or(Ok(()), |r| {
            cgroup.apply(r)?;
            cgroup.limit_devices(r)
        });
        if let Err(error) = limited {
            // The first error says what is wrong; the cgroup is empty and ours.
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    /// Moves a process into it, on version 2: on version 1 that would wait for all who fork on
    /// the node, once for each hierarchy.
    ///
    /// # Errors
    /// When it cannot be moved, or this is version 1.
    pub fn take_in(&self, pid: u32) -> Result<(), Error> {
        let file = self.file_of("", "cgroup.procs");
        write(&file, &pid.to_string()).during("move process to", file.display())
    }

    /// The cgroup at `path`, which exists.
    pub fn open(version: Version, path: &Path) -> Result<Self, Error> {
        let path = relative(path)?;
        Ok(match version {
            Version::V2 => Cgroup::V2(v2::Cgroup::open(&path)?),
            Version::V1 => Cgroup::V1(v1::Cgroup::open(&path)?),
        })
    }

    /// A file of it: of the hierarchy of `controller` on version 1. It need not be there.
    pub fn file_of(&self, controller: &str, name: &str) -> PathBuf {
        match self {
            Cgroup::V2(cgroup) => cgroup.file(name),
            Cgroup::V1(cgroup) => cgroup.file(controller, name),
        }
    }

    /// Changes limits: all that `resources` names, or none of them.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        let mut settings = match self {
            Cgroup::V2(_) => settings::for_v2(resources)?,
            Cgroup::V1(_) => settings::for_v1(resources)?,
        };
        if let Some(block_io) = resources.block_io() {
            settings.extend(match self {
                Cgroup::V2(_) => block_io::for_v2(block_io),
                Cgroup::V1(_) => block_io::for_v1(block_io),
            });
        }
        apply::apply(&settings, |setting| match self {
            Cgroup::V2(cgroup) => cgroup.file(&setting.file),
            Cgroup::V1(cgroup) => cgroup.file(setting.controller, &setting.file),
        })
    }

    fn limit_devices(&self, resources: &LinuxResources) -> Result<(), Error> {
        let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty()) else {
            return Ok(());
        };
        match self {
            Cgroup::V2(cgroup) => devices::attach(cgroup, rules),
            Cgroup::V1(cgroup) => devices::write(cgroup, rules),
        }
    }

    /// A cgroup below this one that only holds the processes of one exec together, so that
    /// they can be ended together. It has no limits of its own.
    pub fn create_child(&self, name: &str) -> Result<Self, Error> {
        Ok(match self {
            Cgroup::V2(cgroup) => Cgroup::V2(cgroup.create_child(name)?),
            Cgroup::V1(cgroup) => Cgroup::V1(cgroup.create_child(name)?),
        })
    }

    /// Moves a process of this cgroup into a new one below it, and lets others be made there
    /// that have limits: on v2 a cgroup with processes hands no controllers down (cgroup-v2.rst,
    /// "No Internal Process Constraint").
    ///
    /// # Errors
    /// When the cgroup cannot be made, or the process cannot be moved.
    pub fn set_aside(&self, name: &str, pid: u32) -> Result<(), Error> {
        let aside = self.create_child(name)?;
        let move_to = |directory: PathBuf| {
            let file = directory.join("cgroup.procs");
            write(&file, &pid.to_string()).during("move process to", file.display())
        };
        match (&aside, self) {
            (Cgroup::V2(aside), Cgroup::V2(cgroup)) => {
                move_to(aside.path().to_owned())?;
                cgroup.hand_down()
            }
            (Cgroup::V1(aside), _) | (_, Cgroup::V1(aside)) => {
                aside.paths().into_iter().try_for_each(move_to)
            }
        }
    }

    /// Lets this user and group manage what is below it (`/sys/kernel/cgroup/delegate`,
    /// cgroup-v2.rst, "Delegation"); on v1 that would be no safe thing to do.
    ///
    /// # Errors
    /// When the owner of a file cannot be changed.
    pub fn delegate(&self, owner: (u32, u32)) -> Result<(), Error> {
        let Cgroup::V2(cgroup) = self else { return Ok(()) };
        let give = |path: PathBuf| {
            chown(&path, Some(owner.0), Some(owner.1)).during("change owner of", path.display())
        };
        give(cgroup.path().to_owned())?;
        ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"]
            .into_iter()
            .try_for_each(|name| give(cgroup.file(name)))
    }

    /// The descriptor that a child is cloned into; none on v1.
    pub fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Cgroup::V2(cgroup) => Some(cgroup.directory()),
            Cgroup::V1(_) => None,
        }
    }

    /// Moves the calling process, which has one thread, into the cgroup where it was not
    /// cloned into it.
    pub fn join(&self) -> Result<(), Error> {
        match self {
            Cgroup::V2(_) => Ok(()),
            Cgroup::V1(cgroup) => cgroup.join(),
        }
    }

    /// How many processes the kernel has killed here for want of memory; none where memory is
    /// not accounted.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let file = match self {
            Cgroup::V2(cgroup) => cgroup.file("memory.events"),
            Cgroup::V1(cgroup) => cgroup.file("memory", "memory.oom_control"),
        };
        let text = text_of(&file).during("read", file.display())?;
        Ok(text.and_then(|text| keyed_number(&text, "oom_kill")).unwrap_or(0))
    }

    /// Sends SIGKILL to every process here and below, and lets those that are frozen take it.
    pub fn kill(&self) -> Result<(), Error> {
        match self {
            Cgroup::V2(cgroup) => cgroup.kill(),
            Cgroup::V1(cgroup) => cgroup.kill(),
        }
    }

    /// Lets frozen processes take the SIGKILL that was sent to them. On v2 they do anyway; on
    /// v1 neither this cgroup nor one below it nor the pod's, directly above, may be frozen.
    ///
    /// # Errors
    /// When the freezer does not take it.
    pub fn thaw_for_kill(&self) -> Result<(), Error> {
        match self {
            Cgroup::V2(_) => Ok(()),
            Cgroup::V1(cgroup) => cgroup.thaw(),
        }
    }

    /// Whether no process is left here or below.
    ///
    /// # Errors
    /// When that cannot be read, which does not mean that none is left.
    pub fn is_empty(&self) -> Result<bool, Error> {
        match self {
            Cgroup::V2(cgroup) => cgroup.is_empty(),
            Cgroup::V1(cgroup) => cgroup.is_empty(),
        }
    }

    /// Removes the cgroup and those below it. Processes in it must have ended; the kernel may
    /// need a moment after their end.
    pub fn remove(&self) -> Result<(), Error> {
        let directories = match self {
            Cgroup::V2(cgroup) => vec![cgroup.path().to_owned()],
            Cgroup::V1(cgroup) => cgroup.paths(),
        };
        directories.iter().try_for_each(|directory| {
            remove_tree(directory).during("remove cgroup", directory.display())
        })
    }
}

/// The names of the cgroups directly below the one at `path`; none where it is not there.
pub fn children(version: Version, path: &Path) -> Vec<String> {
    let directories = match Cgroup::open(version, path) {
        Ok(Cgroup::V2(cgroup)) => vec![cgroup.path().to_owned()],
        Ok(Cgroup::V1(cgroup)) => cgroup.paths(),
        Err(_) => Vec::new(),
    };
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok());
    let names = entries.flat_map(|entries| {
        entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
    });
    names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn relative(path: &Path) -> Result<PathBuf, Error> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let plain = relative.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !plain || relative.as_os_str().is_empty() {
        return Err(Error::spec("linux.cgroupsPath", format!("{path:?} is not a plain path")));
    }
    Ok(relative.to_owned())
}

fn keyed_number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Removes a cgroup directory and those below it. `EBUSY` just after the last process ended
/// is waited out for a short time: the kernel drops its references a moment later.
fn remove_tree(directory: &Path) -> io::Result<()> {
    match rmdir_patiently(directory) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            // Those that lie deepest come last, and go first.
            tree(directory)?.iter().rev().try_for_each(|directory| rmdir_patiently(directory))
        }
        result => result,
    }
}

/// A directory and all below it; nothing where it is gone.
fn tree(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(directory) = all.get(next).cloned() {
        next += 1;
        let entries = match fs::read_dir(&directory) {
            Err(error) if is_gone(&error) => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // One that goes meanwhile has no type any more.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                all.push(entry.path());
            }
        }
    }
    Ok(all)
}

fn rmdir_patiently(directory: &Path) -> io::Result<()> {
    let mut pause = Duration::from_micros(100);
    for _ in 0..6 {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if has_children(directory) {
                    return Err(error);
                }
                std::thread::sleep(pause);
                pause *= 2;
            }
            result => return result,
        }
    }
    fs::remove_dir(directory)
}

fn has_children(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    })
}

/// Writes a value to a cgroup file in one `write(2)`.
fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
}

/// The text of a file of a cgroup; none where the file, or the whole cgroup, is gone.
fn text_of(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `ENODEV` is what an open file says whose cgroup was removed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{keyed_number, relative};

    #[test]
    fn keyed_files_are_read_by_whole_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed_number(text, "oom_kill"), Some(3));
        assert_eq!(keyed_number(text, "oom"), None);
    }

    #[test]
    fn a_path_with_dots_is_refused() {
        assert!(relative(Path::new("/a/../b")).is_err());
        assert!(relative(Path::new("/")).is_err());
        assert_eq!(relative(Path::new("/a/b")).unwrap(), Path::new("a/b"));
    }
}
