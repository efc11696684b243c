//! What a runtime uses: CPU time by cgroup, memory by process.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};

/// The variable by which processes of the workload are known.
pub const MARK: &str = "CRIQUET_BENCH_WORKLOAD";

/// The hierarchy that CPU time is accounted in.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    mount: PathBuf,
    unified: bool,
}

impl Hierarchy {
    /// That of cpuacct where there is one (v1, hybrid), or the unified one.
    pub fn find() -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let mounts: Vec<Vec<&str>> = mounts.lines().map(|l| l.split(' ').collect()).collect();
        let with = |kind: &str, option: &str| {
            let mount = mounts.iter().find(|fields| {
                fields.get(2) == Some(&kind)
                    && (option.is_empty()
                        || fields.get(3).is_some_and(|all| all.split(',').any(|o| o == option)))
            });
            mount.map(|fields| PathBuf::from(fields[1]))
        };
        if let Some(mount) = with("cgroup", "cpuacct") {
            return Ok(Self { mount, unified: false });
        }
        let mount = with("cgroup2", "").context("no cgroups are mounted")?;
        Ok(Self { mount, unified: true })
    }

    /// The directory of a cgroup.
    pub fn directory(&self, cgroup: &Path) -> PathBuf {
        self.mount.join(cgroup.strip_prefix("/").unwrap_or(cgroup))
    }

    /// Makes a cgroup.
    pub fn create(&self, cgroup: &Path) -> anyhow::Result<()> {
        let directory = self.directory(cgroup);
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))
    }

    /// The CPU time charged to a cgroup and all that are or were below it.
    pub fn cpu(&self, cgroup: &Path) -> anyhow::Result<Duration> {
        let directory = self.directory(cgroup);
        if !self.unified {
            let text = fs::read_to_string(directory.join("cpuacct.usage"))?;
            return Ok(Duration::from_nanos(text.trim().parse()?));
        }
        let text = fs::read_to_string(directory.join("cpu.stat"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
        Ok(Duration::from_micros(line.context("cpu.stat has no usage_usec")?.parse()?))
    }

    /// The processes of a cgroup and of all below it.
    fn processes(&self, cgroup: &Path, into: &mut BTreeSet<u32>) -> anyhow::Result<()> {
        let mut directories = vec![self.directory(cgroup)];
        while let Some(directory) = directories.pop() {
            // A cgroup may go meanwhile.
            let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) else { continue };
            into.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// The cgroup of a process.
    fn cgroup_of(&self, pid: u32) -> anyhow::Result<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let line = text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let this = match self.unified {
                true => controllers.is_empty(),
                false => controllers.split(',').any(|controller| controller == "cpuacct"),
            };
            this.then(|| PathBuf::from(path))
        });
        line.context("the server has no cgroup")
    }
}

/// The processes of a runtime and their cgroups.
#[derive(Debug)]
pub struct Usage {
    hierarchy: Hierarchy,
    server: u32,
    cgroups: Vec<PathBuf>,
}

/// Memory of a runtime at one instant, in KiB of PSS.
#[derive(Debug, Default)]
pub struct Memory {
    /// The daemon.
    pub daemon: u64,
    /// Everything else that is not the workload.
    pub others: u64,
    /// How many processes these others are.
    pub processes: usize,
    /// The workload.
    pub workload: u64,
}

impl Usage {
    /// That of the server that listens at a socket, with its pods below `parent`.
    pub fn of(socket: &Path, parent: &Path) -> anyhow::Result<Self> {
        let hierarchy = Hierarchy::find()?;
        let stream = UnixStream::connect(socket)?;
        let server = rustix::net::sockopt::socket_peercred(&stream)?.pid.as_raw_nonzero();
        let server = u32::try_from(server.get())?;
        let own = hierarchy.cgroup_of(server)?;
        ensure!(
            own != hierarchy.cgroup_of(std::process::id())?,
            "the server is in the same cgroup as this program, so that its CPU time cannot be \
             told from others'; start it in one of its own"
        );
        let directory = hierarchy.directory(parent);
        ensure!(
            !directory.exists() || parent.starts_with(&own),
            "{} is there already; give another --cgroup-parent",
            directory.display()
        );
        hierarchy.create(parent)?;
        let mut cgroups = vec![own];
        if !parent.starts_with(&cgroups[0]) {
            cgroups.push(parent.to_owned());
        }
        Ok(Self { hierarchy, server, cgroups })
    }

    /// CPU time so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        self.cgroups.iter().map(|cgroup| self.hierarchy.cpu(cgroup)).sum()
    }

    /// Memory now.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let mut processes = BTreeSet::new();
        for cgroup in &self.cgroups {
            self.hierarchy.processes(cgroup, &mut processes)?;
        }
        let mut memory = Memory::default();
        for pid in processes {
            let Some(pss) = pss(pid) else { continue };
            if pid == self.server {
                memory.daemon += pss;
            } else if is_workload(pid) {
                memory.workload += pss;
            } else {
                memory.others += pss;
                memory.processes += 1;
            }
        }
        Ok(memory)
    }

    /// Removes the cgroup of the pods from every hierarchy.
    pub fn remove(&self, parent: &Path) {
        let relative = parent.strip_prefix("/").unwrap_or(parent);
        for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Not there in most; not empty where the runtime has left something.
            let _ = fs::remove_dir(entry.path().join(relative));
        }
        let _ = fs::remove_dir(self.hierarchy.directory(parent));
    }
}

/// The proportional set size of a process, in KiB; none when it is gone.
fn pss(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

fn is_workload(pid: u32) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| {
        variable.strip_prefix(MARK.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    })
}
