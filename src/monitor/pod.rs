//! The pod as a whole: its namespaces, and what of it is mounted on the host.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount},
    pipe::{PipeFlags, pipe_with},
    process::{WaitId, WaitIdOptions, waitid},
};

use super::{
    START_LIMIT,
    init::{self, Init},
    v1,
};
use crate::{
    runtime::{
        cgroup::{Cgroup, Version},
        error::{During, Error},
        namespaces::{self, Member},
        users::Users,
    },
    sys::{
        clone::{Cloned, SingleThreaded, clone3, setns, unshare},
        exec, signal, sysctl,
    },
};

/// What a pod has made, and lets go of at its end.
#[derive(Debug)]
pub(super) struct Pod {
    pub directory: PathBuf,
    pub init: Option<Init>,
    /// Whether the init has ended, and with it all that was in its PID namespace.
    pub init_exited: bool,
    /// How long a container or an exec may take to its program.
    pub start_limit: Duration,
    users: Option<OwnUsers>,
    /// The mount namespace that those of containers begin with.
    template: Option<OwnedFd>,
    traces: Traces,
}

/// The user namespace of the pod.
#[derive(Debug)]
struct OwnUsers {
    namespace: OwnedFd,
    /// Who is root in it on the host.
    root: (u32, u32),
}

/// How long the init of a pod has to end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// The most that the containers of a pod may write to its files, in bytes: a file of the
/// host's names can have thousands of lines.
const FILES_SIZE: u64 = 4 << 20;

/// What outlives every process of a pod until it is taken away.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    /// Where the network namespace is bound to.
    pub netns: Option<PathBuf>,
    /// Where the memory filesystem is mounted.
    pub shm: Option<PathBuf>,
    /// Where the memory filesystem for the pod's files is mounted.
    pub files: Option<PathBuf>,
    /// The cgroup of the init, which may lie in one that is not the pod's own.
    pub init: Option<PathBuf>,
    /// That of the monitor, where it has one of its own.
    pub monitor: Option<PathBuf>,
    /// The pod's own cgroup.
    pub cgroup: Option<PathBuf>,
}

impl Traces {
    /// Takes away what is there. May be called again, and for a pod that was never whole.
    pub fn remove(&self) -> Result<(), Error> {
        for path in self.shm.iter().chain(&self.files) {
            detach(path, |path| fs::remove_dir(path))?;
        }
        if let Some(path) = &self.netns {
            detach(path, |path| fs::remove_file(path))?;
        }
        let cgroups = [(&self.init, true), (&self.monitor, true), (&self.cgroup, false)];
        for (path, is_to_end) in cgroups {
            let Some(path) = path else { continue };
            let version = Version::detect().during("inspect", "cgroups")?;
            match Cgroup::open(version, path) {
                Ok(cgroup) => {
                    // Its monitor may be gone, and the kernel about to end it.
                    if is_to_end {
                        end(&cgroup)?;
                    }
                    cgroup.remove()?;
                }
                Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Ends the one process of a cgroup, which nothing holds up for long: it has no files.
fn end(cgroup: &Cgroup) -> Result<(), Error> {
    let give_up_at = Instant::now() + END_LIMIT;
    while !cgroup.is_empty()? && Instant::now() < give_up_at {
        cgroup.kill()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn detach(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<(), Error> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Not there, or not mounted.
        Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error).during("unmount", path.display()),
    }
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).during("remove", path.display())
        }
        _ => Ok(()),
    }
}

impl Pod {
    /// Moves this process into the pod's namespaces, those of them that it is not in yet, and
    /// makes what belongs to them. `given` is the template and the directory of settings; of
    /// earlier daemons less.
    pub(super) fn set_up(
        proof: &SingleThreaded,
        setup: &v1::Setup,
        prepared: libc::c_int,
        given: Vec<OwnedFd>,
    ) -> Result<Self, Error> {
        let mut given = given.into_iter();
        let (template, settings) = (given.next(), given.next());
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let pod = Pod {
            directory: PathBuf::from(&setup.directory),
            init: None,
            init_exited: false,
            users: None,
            template,
            start_limit: match setup.start_limit {
                0 => START_LIMIT,
                milliseconds => Duration::from_millis(milliseconds),
            },
            traces: Traces {
                netns: path(&setup.netns_path),
                shm: path(&setup.shm_path),
                files: path(&setup.files_path),
                init: path(&setup.init_cgroup),
                // Whoever is in it cannot remove it.
                monitor: None,
                cgroup: path(&setup.cgroup),
            },
        };
        let of_failed = Traces { cgroup: None, ..pod.traces.clone() };
        let result = pod.fill(proof, setup, prepared, settings);
        result.inspect_err(|_| {
            // The first error says what is wrong; the daemon removes what stays as well.
            let _ = of_failed.remove();
        })
    }

    fn fill(
        mut self,
        proof: &SingleThreaded,
        setup: &v1::Setup,
        prepared: libc::c_int,
        settings: Option<OwnedFd>,
    ) -> Result<Self, Error> {
        let own = namespaces(setup.network, setup.ipc, setup.uts);
        let mut root = (0, 0);
        match &setup.users {
            None => make_namespaces(own & !prepared)?,
            // Those that were made ahead are the host's users'.
            Some(users) => {
                let namespace = make_with_users(proof, own, users)?;
                root = (users.host_uid, users.host_gid);
                self.users = Some(OwnUsers { namespace, root });
            }
        }
        let (uid, gid) = root;
        if setup.uts {
            rustix::system::sethostname(setup.hostname.as_bytes())
                .during("set host name to", &setup.hostname)?;
        }
        for (name, value) in &setup.sysctls {
            sysctl::set(settings.as_ref().map(AsFd::as_fd), name, value)
                .map_err(|error| Error::spec("sysctls", error.to_string()))?;
        }
        if let Some(path) = &self.traces.netns {
            bind_network_namespace(path)?;
        }
        // A label may hold commas, which are between options otherwise.
        let label = match setup.mount_label.as_str() {
            "" => String::new(),
            label => format!(",context=\"{label}\""),
        };
        if let Some(path) = &self.traces.shm {
            let size = setup.shm_size;
            let options = format!("mode=1777,size={size},uid={uid},gid={gid}{label}");
            mount_memory(path, "shm", &options)?;
        }
        if let Some(path) = &self.traces.files {
            let options = format!("mode=755,size={FILES_SIZE},nr_inodes=8{label}");
            mount_memory(path, "criquet", &options)?;
        }
        if setup.pid {
            let users = self.users.as_ref().map(|users| users.namespace.as_fd());
            let cgroup = self.traces.init.as_deref();
            self.init = Some(init::start(proof, &self.directory, cgroup, users)?);
        }
        Ok(self)
    }

    /// Its user namespace, where it is not the host's.
    pub(super) fn users(&self) -> Option<Users<'_>> {
        let OwnUsers { namespace, root } = self.users.as_ref()?;
        Some(Users { namespace: namespace.as_fd(), root: *root })
    }

    /// What the mount namespaces of its containers begin with.
    pub(super) fn template(&self) -> Option<BorrowedFd<'_>> {
        self.template.as_ref().map(AsFd::as_fd)
    }

    /// The first process of the PID namespace that the containers share.
    pub(super) fn pid_namespace(&self) -> Result<Member<'_>, Error> {
        match &self.init {
            // One that has ended may be nobody by now, or somebody else.
            Some(_) if self.init_exited => Err(namespaces::ended()),
            Some(init) => Ok(Member { pid: init.pid, pidfd: init.pidfd.as_fd() }),
            None => Err(Error::spec("pid mode", "the pod has no PID namespace of its own")),
        }
    }

    /// Ends the init and takes away what is mounted.
    pub(super) fn tear_down(&self) -> Result<(), Error> {
        if let Some(init) = &self.init {
            // It may have ended already.
            let _ = signal::send(init.pidfd.as_fd(), libc::SIGKILL);
            if let Some(cgroup) = &init.cgroup {
                end(cgroup)?;
            }
        }
        self.traces.remove()
    }
}

/// `CLONE_NEW*` of the namespaces that a pod has of its own.
pub(super) fn namespaces(network: bool, ipc: bool, uts: bool) -> libc::c_int {
    let flags =
        [(network, libc::CLONE_NEWNET), (ipc, libc::CLONE_NEWIPC), (uts, libc::CLONE_NEWUTS)];
    flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag)
}

/// Moves this process into new namespaces.
pub(super) fn make_namespaces(flags: libc::c_int) -> Result<(), Error> {
    unshare(flags).during("create", "namespaces of the pod")
}

/// A user namespace, and this process in new namespaces that belong to it.
fn make_with_users(
    proof: &SingleThreaded,
    flags: libc::c_int,
    users: &v1::Users,
) -> Result<OwnedFd, Error> {
    let (ready, release) = pipe_with(PipeFlags::CLOEXEC).during("create", "pipe")?;
    match clone3(proof, flags | libc::CLONE_NEWUSER, None).during("create", "user namespace")? {
        Cloned::Child => {
            // They last for as long as somebody is in them: until they are joined.
            drop(release);
            let _ = rustix::io::read(&ready, &mut [0_u8]);
            exec::exit(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
            let map = |name: &str, host: u32, count: u32| {
                let file = process.join(name);
                fs::write(&file, format!("0 {host} {count}")).during("write", file.display())
            };
            let joined = map("gid_map", users.host_gid, users.gids)
                .and_then(|()| map("uid_map", users.host_uid, users.uids))
                .and_then(|()| {
                    let file = process.join("ns/user");
                    File::open(&file).during("open", file.display())
                })
                .and_then(|namespace| {
                    if flags != 0 {
                        setns(pidfd.as_fd(), flags).during("join", "namespaces of the pod")?;
                    }
                    Ok(namespace.into())
                });
            drop(release);
            waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
                .during("wait for", "user namespace")?;
            joined
        }
    }
}

fn bind_network_namespace(path: &Path) -> Result<(), Error> {
    let create = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        File::create(path).map(drop)
    };
    create().during("create", path.display())?;
    mount_bind("/proc/self/ns/net", path).during("bind network namespace to", path.display())
}

/// Memory that a pod's containers write to, within its size.
fn mount_memory(path: &Path, name: &str, options: &str) -> Result<(), Error> {
    fs::create_dir_all(path).during("create", path.display())?;
    let options =
        std::ffi::CString::new(options).map_err(|_| Error::spec("mounts", "bad options"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(name, path, "tmpfs", flags, Some(options.as_c_str())).during("mount", path.display())
}
