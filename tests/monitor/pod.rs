//! A real monitor with a pod of its own, and the daemon's side of it.

use std::{
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use criquet::{
    monitor::{
        client::{Error, Event, ExecStdio, Monitor, Program, Started},
        v1,
    },
    runtime::{
        bundle::{Bundle, ExecBundle, Rootfs},
        cgroup::{Cgroup, Version},
        ground,
    },
};
use oci_spec::runtime::{MountBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What every wait of a test gets, which is never reached where all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A monitor and its pod; dropping it ends both.
pub struct Pod {
    pub directory: tempfile::TempDir,
    /// Of the pod, as it is named below the hierarchies.
    pub cgroup: String,
    pub monitor: Monitor,
    pub events: UnboundedReceiver<Event>,
    pid: Pid,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Pod {
    /// A pod with network, IPC and UTS namespaces.
    pub async fn start() -> Self {
        Self::start_with(v1::Setup::default()).await
    }

    /// The same, with what else is set up.
    pub async fn start_with(setup: v1::Setup) -> Self {
        let pod = Self::without_setup();
        let template = ground::template(&pod.directory.path().join("mount")).unwrap();
        pod.set_up(setup, Some(template)).await
    }

    /// One whose daemon had no template of mount namespaces.
    pub async fn start_without_template() -> Self {
        Self::without_setup().set_up(v1::Setup::default(), None).await
    }

    async fn set_up(self, setup: v1::Setup, template: Option<OwnedFd>) -> Self {
        let pod = self;
        let setup = v1::Setup {
            directory: pod.directory.path().display().to_string(),
            network: true,
            ipc: true,
            uts: true,
            hostname: "pod".to_owned(),
            cgroup: pod.cgroup.clone(),
            ..setup
        };
        pod.monitor.set_up(setup, template.as_ref().map(AsFd::as_fd)).await.unwrap();
        pod
    }

    /// A monitor that was told nothing yet.
    pub fn without_setup() -> Self {
        let directory = tempfile::Builder::new().prefix("criquet-monitor-").tempdir().unwrap();
        make_root(&directory.path().join("root"));
        fs::create_dir(directory.path().join("mount")).unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/criquet-monitor-test-{}-{number}", std::process::id());
        let program = Program::load(Path::new(env!("CARGO_BIN_EXE_criquet-monitor"))).unwrap();
        let (sender, events) = unbounded_channel();
        let monitor = program.spawn(&directory.path().join("m"), sender).unwrap();
        let pid = Pid::from_raw(monitor.pid().unwrap() as i32).unwrap();
        Self { directory, cgroup, monitor, events, pid }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("m")
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Another daemon comes.
    pub fn connect_anew(&mut self) {
        let (sender, events) = unbounded_channel();
        self.monitor = Monitor::connect(&self.socket(), sender).unwrap();
        self.events = events;
    }

    /// Stops the monitor, as a disk that does not answer would.
    pub fn freeze(&self) -> Frozen {
        kill_process(self.pid(), Signal::STOP).unwrap();
        wait_until(|| self.process_state() == Some('T'));
        Frozen(self.pid())
    }

    /// Of the monitor (proc_pid_stat(5)).
    pub fn process_state(&self) -> Option<char> {
        state_of(self.pid())
    }

    /// The request for a container with this command.
    pub fn request(&self, id: &str) -> v1::Start {
        v1::Start {
            container: id.to_owned(),
            cgroup: format!("{}/{id}", self.cgroup),
            log_path: self.directory.path().join(format!("{id}.log")).display().to_string(),
            ..v1::Start::default()
        }
    }

    /// Starts a container that executes a script.
    pub async fn run(&self, id: &str, script: &str) -> Result<v1::Started, Error> {
        self.run_as(self.request(id), script).await
    }

    pub async fn run_as(&self, request: v1::Start, script: &str) -> Result<v1::Started, Error> {
        let bundle = self.bundle(&request, script);
        self.monitor.start(request, bundle.as_fd(), None).await
    }

    /// The file with the bundle of a container.
    pub fn bundle(&self, request: &v1::Start, script: &str) -> OwnedFd {
        self.bundle_of(request, spec(script, request.terminal))
    }

    /// The same, with a directory of the host at `/tmp`.
    pub fn bundle_with(&self, request: &v1::Start, script: &str, volume: &Path) -> OwnedFd {
        let mut spec = spec(script, request.terminal);
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        let bind = MountBuilder::default().destination("/tmp").typ("bind").source(volume);
        mounts.push(bind.options(["bind".to_owned()]).build().unwrap());
        spec.set_mounts(Some(mounts));
        self.bundle_of(request, spec)
    }

    fn bundle_of(&self, request: &v1::Start, spec: Spec) -> OwnedFd {
        let root = self.directory.path().join("root");
        let bundle = Bundle {
            volumes: Default::default(),
            hooks: None,
            raw_environment: Default::default(),
            spec,
            rootfs: Rootfs::Directory(root),
            mount_point: self.directory.path().join("mount"),
        };
        let path = self.directory.path().join(format!("{}.json", request.container));
        fs::write(&path, serde_json::to_vec(&bundle).unwrap()).unwrap();
        fs::File::open(path).unwrap().into()
    }

    /// Executes a script in a container, without streams.
    pub async fn exec(
        &self,
        container: &str,
        script: &str,
        time: Option<Duration>,
    ) -> Result<Started, Error> {
        let null = fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        let streams = ExecStdio::Streams([null.as_fd(); 3]);
        let bundle = ExecBundle {
            process: process(script, false),
            seccomp_flags: 0,
            raw_environment: Default::default(),
        };
        let id = self.monitor.next_exec();
        self.monitor.exec(id, container, &bundle, None, streams, time).await
    }

    /// The next end of a container.
    pub async fn exited(&mut self) -> v1::ContainerExited {
        loop {
            match tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event") {
                Some(Event::ContainerExited(exit)) => return exit,
                Some(Event::Gone) | None => panic!("the monitor is gone"),
                Some(_) => {}
            }
        }
    }

    pub async fn state_of(&self, id: &str) -> Option<v1::ContainerState> {
        let states = self.monitor.state().await.unwrap().containers;
        states.into_iter().find(|state| state.container == id)
    }

    /// The text of a container's log.
    pub fn log(&self, id: &str) -> String {
        fs::read_to_string(self.directory.path().join(format!("{id}.log"))).unwrap_or_default()
    }

    /// A cgroup of a container.
    pub fn cgroup_of(&self, id: &str) -> Option<Cgroup> {
        let path = PathBuf::from(format!("{}/{id}", self.cgroup));
        Cgroup::open(Version::detect().unwrap(), &path).ok()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Its containers first: nobody else finds them all.
        let version = Version::detect().unwrap();
        if let Ok(cgroup) = Cgroup::open(version, Path::new(&self.cgroup)) {
            let end = Instant::now() + PATIENCE;
            while !cgroup.is_empty().unwrap_or(true) && Instant::now() < end {
                let _ = cgroup.kill();
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = cgroup.remove();
        }
        let _ = kill_process(self.pid, Signal::CONT);
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

/// A file system that does not answer.
pub struct Hung {
    directory: tempfile::TempDir,
    /// Whose requests nobody reads (fuse(4)).
    _device: fs::File,
}

impl Hung {
    /// None where the machine has no FUSE.
    pub fn mount() -> Option<Self> {
        use std::os::fd::AsRawFd;
        let directory = tempfile::Builder::new().prefix("criquet-hung-").tempdir().unwrap();
        let device = fs::File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let data = std::ffi::CString::new(data).unwrap();
        let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
        rustix::mount::mount("hung", directory.path(), "fuse", flags, Some(&*data)).ok()?;
        Some(Self { directory, _device: device })
    }

    /// A place of it that nobody can look at.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("x")
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::FORCE;
        let _ = rustix::mount::unmount(self.directory.path(), flags);
    }
}

/// Goes on when it is dropped.
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Of a process (proc_pid_stat(5)).
pub fn state_of(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits for what no event tells.
pub fn wait_until(mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < end, "it does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same, beside what this thread has to do.
pub async fn eventually(mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < end, "it does not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn make_root(root: &Path) {
    let busybox =
        std::env::var_os("CRIQUET_TEST_BUSYBOX").map_or("/bin/busybox".into(), PathBuf::from);
    for name in ["bin", "proc", "dev", "tmp"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy(&busybox, root.join("bin/busybox")).unwrap_or_else(|error| {
        panic!("{}: {error}; install busybox-static or set CRIQUET_TEST_BUSYBOX", busybox.display())
    });
    for name in ["sh", "sleep", "true", "echo", "cat", "kill", "tty"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
}

fn process(script: &str, terminal: bool) -> Process {
    let arguments = ["/bin/sh", "-c", script].map(str::to_owned);
    ProcessBuilder::default()
        .args(arguments)
        .env(["PATH=/bin".to_owned()])
        .cwd("/")
        .terminal(terminal)
        .build()
        .unwrap()
}

fn spec(script: &str, terminal: bool) -> Spec {
    let mount = |place: &str, kind: &str, options: &[&str]| {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let mount = MountBuilder::default().destination(place).typ(kind).source(kind);
        mount.options(options).build().unwrap()
    };
    let mounts = vec![
        mount("/proc", "proc", &[]),
        mount("/dev", "tmpfs", &["mode=755"]),
        mount("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666"]),
    ];
    let mut spec = SpecBuilder::default()
        .process(process(script, terminal))
        .root(RootBuilder::default().path("/").build().unwrap())
        .mounts(mounts)
        .build()
        .unwrap();
    let mut linux = spec.linux().clone().unwrap_or_default();
    linux.set_masked_paths(None).set_readonly_paths(None);
    spec.set_linux(Some(linux));
    spec
}
