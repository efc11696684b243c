//! A real daemon in a network namespace of its own, with a small image, and its client.
//!
//! Tests ask for a [`Node`] and get one that is ready. Everything that a daemon makes lies in
//! a temporary directory, beneath a cgroup and in a network namespace of its own, so that tests
//! run side by side; dropping the node ends all of it, also when the test failed.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod hang;
pub mod image;
pub mod leaks;
pub mod random;
pub mod requests;
pub mod streams;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use criquet::cri::v1::{
    self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};
use tonic::transport::{Channel, Endpoint, Uri};

/// Says why a test does not run, and fails where it should: in a suite that is run as root.
#[macro_export]
macro_rules! requires_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: {} needs root", module_path!());
            return;
        }
    };
}

/// One daemon and all that belongs to it.
pub struct Node {
    /// Holds everything; removed at the end.
    pub directory: tempfile::TempDir,
    /// The name of its cgroup below the root cgroup.
    pub cgroup: String,
    /// The calls about pods.
    pub runtime: RuntimeServiceClient<Channel>,
    /// The calls about images.
    pub images: ImageServiceClient<Channel>,
    holder: Child,
    daemon: Option<Child>,
    descriptors: Option<(u32, u32)>,
    environment: Option<(&'static str, String)>,
    program: Option<PathBuf>,
    launcher: Vec<String>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Node {
    /// A daemon that serves, with the test image.
    pub async fn start() -> Self {
        Self::start_with("warm_monitors = 0").await
    }

    /// The same, with more lines for its configuration.
    pub async fn start_with(more: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("criquet-test-").tempdir().unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("criquet-test-{}-{number}", std::process::id());
        let path = |name: &str| directory.path().join(name).display().to_string();
        // Tests name their cgroups by paths, unless they are about systemd.
        let driver = match more.contains("cgroup_driver") {
            true => String::new(),
            false => "cgroup_driver = \"cgroupfs\"".to_owned(),
        };
        let config = format!(
            "root = {:?}\nstate = {:?}\nlisten = \"unix://{}\"\nnetns_dir = {:?}\n\
             cgroup_parent = \"/{cgroup}\"\nmonitor_path = {:?}\nlog_level = \"debug\"\n{driver}\n\
             {more}\n\
             [cni]\nconf_dir = {:?}\ncache_dir = {:?}\n[registry]\nconfig_path = {:?}\n",
            path("root"),
            path("state"),
            path("criquet.sock"),
            path("netns"),
            env!("CARGO_BIN_EXE_criquet-monitor"),
            path("cni"),
            path("cni-cache"),
            path("certs.d"),
        );
        fs::write(directory.path().join("config.toml"), config).unwrap();
        image::import(directory.path());
        let holder = network_namespace();
        let channel = channel(directory.path().join("criquet.sock"));
        let mut node = Self {
            directory,
            cgroup,
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20),
            images: ImageServiceClient::new(channel),
            holder,
            daemon: None,
            descriptors: None,
            environment: None,
            program: None,
            launcher: Vec::new(),
        };
        node.start_daemon().await;
        node
    }

    /// Starts the daemon and waits until it answers.
    pub async fn start_daemon(&mut self) {
        self.launch_daemon();
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if self.runtime.version(v1::VersionRequest::default()).await.is_ok() {
                return;
            }
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.log());
            assert!(Instant::now() < end, "the daemon does not answer\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn launch_daemon(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("daemon.log"))
            .unwrap();
        let own = Path::new(env!("CARGO_BIN_EXE_criquet"));
        let program = self.program.as_deref().unwrap_or(own).to_str().unwrap();
        let mut command = match self.descriptors {
            None if !self.launcher.is_empty() => {
                let mut command = self.inside(&self.launcher[0]);
                command.args(&self.launcher[1..]).arg(program);
                command
            }
            None => self.inside(program),
            Some((soft, hard)) => {
                let mut command = self.inside("prlimit");
                command.arg(format!("--nofile={soft}:{hard}")).args(["--", program]);
                command
            }
        };
        if let Some((name, value)) = &self.environment {
            command.env(name, value);
        }
        let daemon = command
            .args(["serve", "--config"])
            .arg(self.directory.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
    }

    /// Adds images that differ from the first, while no daemon runs.
    pub async fn with_images(mut self, images: &[(&str, &[(&str, image::Instead)])]) -> Self {
        self.kill_daemon();
        for (name, differences) in images {
            image::import_other(self.directory.path(), name, differences);
        }
        self.start_daemon().await;
        self
    }

    /// Starts the daemon with one more variable in its environment, and waits until it answers
    /// or has ended.
    pub async fn start_daemon_with(&mut self, name: &'static str, value: &str) {
        self.environment = Some((name, value.to_owned()));
        self.launch_daemon();
        self.environment = None;
        while !self.has_ended() {
            if self.runtime.version(v1::VersionRequest::default()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts the daemon by way of a program with arguments, which is to execute it.
    pub async fn start_daemon_through(&mut self, launcher: &[&str]) {
        self.launcher = launcher.iter().map(|word| (*word).to_owned()).collect();
        self.start_daemon().await;
        self.launcher = Vec::new();
    }

    /// Starts another program as the daemon, and waits until it answers.
    pub async fn start_other_daemon(&mut self, program: &Path) {
        self.program = Some(program.to_owned());
        self.start_daemon().await;
        self.program = None;
    }

    /// Whether the daemon has died by itself; what was asked of it is over.
    pub async fn has_died(&mut self) -> bool {
        // One that lives answers; one that dies does so in a moment.
        while !self.has_ended() {
            if self.runtime.version(v1::VersionRequest::default()).await.is_ok() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.daemon = None;
        true
    }

    /// Starts the daemon with a soft and a hard limit of descriptors, and waits until it answers.
    pub async fn start_daemon_with_descriptors(&mut self, soft: u32, hard: u32) {
        self.descriptors = Some((soft, hard));
        self.start_daemon().await;
        self.descriptors = None;
    }

    /// SIGKILL, as the kernel or an administrator in a hurry would.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The same of one that cannot end yet; for [`Node::wait_for`].
    pub fn kill_daemon_without_waiting(&mut self) -> Child {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon
    }

    /// Waits for the end of a daemon that was killed.
    pub fn wait_for(&self, mut daemon: Child) {
        daemon.wait().unwrap();
    }

    /// Ends the plugins that hang: those who sleep in the node's network namespace.
    pub fn end_plugins(&self) {
        for pid in self.runs_inside("sleep") {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Processes of this name in the node's network namespace, but for the one that holds it.
    pub fn runs_inside(&self, name: &str) -> Vec<rustix::process::Pid> {
        let namespace = fs::read_link(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        let is_one = |entry: &fs::DirEntry| {
            let is_here = fs::read_link(entry.path().join("ns/net")).is_ok_and(|n| n == namespace);
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            is_here && command.trim() == name
        };
        let entries = fs::read_dir("/proc").unwrap().flatten().filter(is_one);
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let others = entries.filter_map(pid).filter(|pid| *pid != self.holder.id() as i32);
        others.filter_map(rustix::process::Pid::from_raw).collect()
    }

    /// Whether the daemon is there no longer.
    pub fn has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| daemon.try_wait().unwrap().is_some())
    }

    /// The process id of the daemon.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// The network namespace that the daemon is in.
    pub fn namespace(&self) -> PathBuf {
        streams::namespace_of(self.holder.id())
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("daemon.log")).unwrap_or_default()
    }

    /// A path in the node's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program in the node's network namespace.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).args(["--", program]);
        command
    }

    /// The process id of the monitor of a pod.
    pub fn monitor_of(&self, pod: &str) -> rustix::process::Pid {
        let remains = fs::read(self.path("state/pods").join(pod).join("remains")).unwrap();
        let remains: serde_json::Value = serde_json::from_slice(&remains).unwrap();
        let pid = remains["monitor"]["pid"].as_i64().unwrap();
        rustix::process::Pid::from_raw(pid as i32).unwrap()
    }

    /// Process ids of the monitors of this daemon.
    pub fn monitors(&self) -> Vec<i32> {
        leaks::monitors(self.holder.id(), self)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the daemon ---\n{}", self.log());
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        leaks::end_everything(self);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A process that holds a new network namespace with its loopback up.
fn network_namespace() -> Child {
    let mut holder = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", "ip link set lo up && echo ready && exec sleep 100000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare(1) and ip(8) are needed");
    let mut line = String::new();
    let output = holder.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    holder
}

/// A connection to a server at a socket, made when it is first used.
pub fn channel(socket: PathBuf) -> Channel {
    Endpoint::from_static("http://criquet").connect_with_connector_lazy(tower::service_fn(
        move |_: Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        },
    ))
}

/// Waits until a condition holds, and fails with its name when it does not for long.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !condition().await {
        assert!(Instant::now() < end, "did not come to be: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An answer that must come, however slow the machine: a call that hangs fails the test, and
/// says which one it was.
pub async fn answered<T>(what: &str, call: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(Duration::from_secs(45), call).await;
    answer.unwrap_or_else(|_| panic!("no answer: {what}"))
}

/// The texts of a log's lines of one stream, `stdout` or `stderr`.
pub fn log_texts(path: &Path, stream: &str) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(4, ' ');
            let (_, name, _, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
            (name == stream).then(|| text.to_owned())
        })
        .collect()
}
