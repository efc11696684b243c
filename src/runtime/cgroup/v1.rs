//! The same cgroup path on every v1 hierarchy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    super::error::{During, Error},
    ROOT, is_gone, text_of, tree, write,
};

/// Hierarchies by the names of their mount points. `systemd` is a named one without a
/// controller; processes are moved there too, so that systemd counts them to the container.
const HIERARCHIES: [&str; 13] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "pids",
    "devices",
    "freezer",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "systemd",
];

/// A directory on each hierarchy, or for the processes of an exec on the freezer alone.
#[derive(Debug)]
pub struct Cgroup {
    directories: Vec<(&'static str, PathBuf)>,
    /// Whether only the freezer's directory is its own, the others being the container's.
    of_exec: bool,
}

impl Cgroup {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let mut made = Self { directories: Vec::new(), of_exec: false };
        for (name, root) in mounted()? {
            made.directories.push((name, root.join(path)));
            if let Err(error) = make(name, &root, path) {
                for (_, directory) in &made.directories {
                    let _ = fs::remove_dir(directory);
                }
                return Err(error);
            }
        }
        Ok(made)
    }

    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let mut directories = Vec::new();
        for (name, root) in mounted()? {
            let directory = root.join(path);
            if directory.try_exists().during("open cgroup", directory.display())? {
                directories.push((name, directory));
            }
        }
        if directories.is_empty() {
            return Err(io::Error::from(io::ErrorKind::NotFound))
                .during("open cgroup", path.display());
        }
        Ok(Self { directories, of_exec: false })
    }

    /// The freezer alone tells which processes belong to an exec; everything else they get
    /// from the container's own cgroup, which the child joins first.
    pub(super) fn create_child(&self, name: &str) -> Result<Self, Error> {
        let mut directories = self.directories.clone();
        for (hierarchy, directory) in &mut directories {
            if *hierarchy == "freezer" {
                directory.push(name);
                fs::create_dir(&directory).during("create cgroup", directory.display())?;
            }
        }
        Ok(Self { directories, of_exec: true })
    }

    /// A file of this cgroup. Where the hierarchy is not there the path leads nowhere, and in
    /// no case to a file of the root cgroup, which is everybody's.
    pub(super) fn file(&self, controller: &str, name: &str) -> PathBuf {
        match self.directories.iter().find(|(hierarchy, _)| *hierarchy == controller) {
            Some((_, directory)) => directory.join(name),
            None => Path::new(ROOT).join(format!("{controller} is not mounted")).join(name),
        }
    }

    pub(super) fn join(&self) -> Result<(), Error> {
        self.directories.iter().try_for_each(|(_, directory)| {
            write(&directory.join("tasks"), "0").during("join cgroup", directory.display())
        })
    }

    /// The directories that are this cgroup's own.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let own = |hierarchy: &str| !self.of_exec || hierarchy == "freezer";
        self.directories.iter().filter(|(h, _)| own(h)).map(|(_, path)| path.clone()).collect()
    }

    /// Freezes the processes, so that none forks away, sends SIGKILL and thaws them.
    pub(super) fn kill(&self) -> Result<(), Error> {
        let state = self.file("freezer", "freezer.state");
        // A process that cannot be frozen just now is still killed, round by round.
        let _ = write(&state, "FROZEN");
        let killed = self.processes().map(|processes| {
            for pid in processes.into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        // Whatever happened: frozen they would stay for ever.
        self.thaw().and(killed)
    }

    /// Thaws this cgroup and those below it, and of a container the pod's above it: a process
    /// dies only when all of them let it. They stay thawed, since what is ended needs to run.
    /// A container that somebody has frozen stays so when it is only a command that ends.
    pub(super) fn thaw(&self) -> Result<(), Error> {
        let Some(own) = self.of("freezer") else { return Ok(()) };
        let above = own.ancestors().skip(1).take(usize::from(!self.of_exec));
        for directory in above.map(Path::to_owned).chain(tree_of(own)?) {
            let state = directory.join("freezer.state");
            match write(&state, "THAWED") {
                // Its root has no such file.
                Err(error) if is_gone(&error) => {}
                result => result.during("thaw cgroup", state.display())?,
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        self.processes().map(|processes| processes.is_empty())
    }

    /// The processes here and below: on the freezer, and where that is gone on another.
    fn processes(&self) -> Result<Vec<i32>, Error> {
        let first = || self.directories.first().filter(|_| !self.of_exec).map(|(_, path)| path);
        let Some(directory) = self.of("freezer").or_else(first) else { return Ok(Vec::new()) };
        let mut processes = Vec::new();
        for directory in tree_of(directory)? {
            let file = directory.join("cgroup.procs");
            let text = text_of(&file).during("read", file.display())?.unwrap_or_default();
            processes.extend(text.lines().filter_map(|line| line.trim().parse::<i32>().ok()));
        }
        Ok(processes)
    }

    fn of(&self, wanted: &str) -> Option<&PathBuf> {
        self.directories.iter().find(|(name, _)| *name == wanted).map(|(_, directory)| directory)
    }
}

fn tree_of(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    tree(directory).during("read cgroup", directory.display())
}

/// Whether any hierarchy is there.
pub(super) fn is_mounted() -> io::Result<bool> {
    for name in HIERARCHIES {
        if Path::new(ROOT).join(name).join("tasks").try_exists()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The hierarchies of this node with their mount points. Controllers that are mounted
/// together (`cpu,cpuacct`) are reached by either name through symbolic links.
fn mounted() -> Result<Vec<(&'static str, PathBuf)>, Error> {
    let mut mounted = Vec::new();
    for name in HIERARCHIES {
        let root = Path::new(ROOT).join(name);
        if root.join("tasks").try_exists().during("inspect", root.display())? {
            mounted.push((name, root));
        }
    }
    Ok(mounted)
}

fn make(hierarchy: &str, root: &Path, path: &Path) -> Result<(), Error> {
    let mut directory = root.to_owned();
    for name in path {
        directory.push(name);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.during("create cgroup", directory.display())?,
        }
        if hierarchy == "cpuset" {
            inherit_cpuset(&directory)?;
        }
    }
    Ok(())
}

/// A new v1 cpuset is empty and takes no process until it has processors and memory nodes. A
/// write of these has the kernel build its scheduling domains anew, which waits for all
/// processors, and the longer the more cpusets there are; so those below get theirs when they
/// are made (`cgroup.clone_children`, Documentation/admin-guide/cgroup-v1/cgroups.rst).
fn inherit_cpuset(directory: &Path) -> Result<(), Error> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    let clones = directory.join("cgroup.clone_children");
    if fs::read_to_string(&clones).is_ok_and(|clones| clones.trim() == "0") {
        // Without it the next one is written to.
        let _ = fs::write(&clones, "1");
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let read = |path: &Path| fs::read_to_string(path).during("read", path.display());
        let value = read(&parent.join(file))?;
        let file = directory.join(file);
        if !read(&file)?.trim().is_empty() {
            continue;
        }
        write(&file, value.trim()).during("write", file.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::Cgroup;

    #[test]
    fn a_cgroup_that_cannot_be_read_is_not_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let directories = vec![("freezer", directory.path().join(name))];
            Cgroup { directories, of_exec: false }
        };
        fs::write(directory.path().join("unreadable"), "").unwrap();
        assert!(at("unreadable").is_empty().is_err());
        assert!(at("unreadable").kill().is_err());
        // One whose list of processes cannot be read.
        fs::create_dir_all(directory.path().join("half/inner/cgroup.procs")).unwrap();
        assert!(at("half").is_empty().is_err());
        assert!(at("absent").is_empty().unwrap());
    }

    #[test]
    fn a_cgroup_that_is_gone_holds_nobody() {
        // Once it stood for the root of the hierarchy, and its end was the end of the machine.
        let cgroup = Cgroup { directories: Vec::new(), of_exec: false };
        assert!(cgroup.is_empty().unwrap());
        cgroup.kill().unwrap();
        assert!(!cgroup.file("freezer", "cgroup.procs").exists());
        assert!(Cgroup::open(Path::new("criquet-does-not-exist")).is_err());
    }
}
