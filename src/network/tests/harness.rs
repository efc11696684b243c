//! A host and pods, each a network namespace that ends with the test.

use std::{
    future::Future,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};

use crate::{
    network::{
        Addresses, Error, Network, Options, PodRequest, PortMapping, Protocol, namespace,
        netlink::{Messages, Socket},
        route,
    },
    store::{Database, Durability},
};

/// Runs the test in a namespace that stands for the host, if that is allowed.
pub fn on_a_host(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: this test makes network namespaces and needs root");
        return;
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        loopback_up();
        test();
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

fn loopback_up() {
    let mut messages = Messages::new();
    route::set_up(&mut messages, 1);
    Socket::route().unwrap().send_all(messages).unwrap();
}

/// A daemon's network with a database that outlives it.
pub struct Host {
    pub directory: tempfile::TempDir,
    pub options: Options,
    pub network: Network,
    database: Arc<Database>,
}

impl Host {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options {
            root: directory.path().to_owned(),
            cni_conf_dir: directory.path().join("net.d"),
            cni_bin_dirs: vec![directory.path().join("bin")],
            cache_dir: directory.path().join("cache"),
            ..Options::default()
        };
        change(&mut options);
        let database = database(&directory);
        let network = Network::open(options.clone(), Arc::clone(&database)).unwrap();
        Self { directory, options, network, database }
    }

    /// The daemon is gone, with all that it wrote, and comes back.
    pub fn restart(&mut self) {
        block_on(self.database.settled());
        self.database = database(&self.directory);
        self.network = Network::open(self.options.clone(), Arc::clone(&self.database)).unwrap();
    }

    pub fn try_set_up(&self, pod: &Pod) -> Result<Addresses, Error> {
        block_on(self.network.setup(&pod.request, pod.namespace.as_fd(), &pod.path()))
    }

    pub fn set_up(&self, pod: &Pod) -> Addresses {
        self.try_set_up(pod).unwrap()
    }

    pub fn tear_down(&self, pod: &Pod) {
        block_on(self.network.teardown(&pod.request, Some(&pod.path()))).unwrap();
    }
}

fn database(directory: &tempfile::TempDir) -> Arc<Database> {
    let path = directory.path().join("state.db");
    Arc::new(Database::open(&path, Durability::Process).unwrap())
}

pub fn try_open(directory: &tempfile::TempDir, options: &Options) -> Result<Network, Error> {
    Network::open(options.clone(), database(directory))
}

/// A pod without processes.
pub struct Pod {
    pub request: PodRequest,
    pub namespace: OwnedFd,
}

impl Pod {
    pub fn new(sandbox: &str) -> Self {
        let request = PodRequest {
            sandbox_id: sandbox.to_owned(),
            name: format!("pod-{sandbox}"),
            namespace: "default".to_owned(),
            uid: format!("uid-{sandbox}"),
            ..PodRequest::default()
        };
        Self { request, namespace: new_namespace() }
    }

    pub fn with_port(mut self, protocol: Protocol, host: u16, port: u16) -> Self {
        self.request.port_mappings.push(PortMapping {
            protocol,
            host_port: host,
            container_port: port,
            host_ip: None,
        });
        self
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd()).into()
    }

    /// Does something inside the pod.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = self.namespace.try_clone().unwrap();
        let run = move || {
            namespace::enter(namespace.as_fd()).unwrap();
            work()
        };
        thread::spawn(run).join().unwrap()
    }

    /// Answers every connection to the port with a text.
    pub fn serve(&self, port: u16, text: &'static str) {
        let listener = self.inside(move || TcpListener::bind(("::", port)).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(text.as_bytes());
            }
        });
    }
}

pub fn new_namespace() -> OwnedFd {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        namespace::current().unwrap()
    };
    thread::spawn(make).join().unwrap()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What is answered takes no time, and what is refused neither: for what is lost.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What a server says, or that it cannot be reached.
pub fn fetch(address: SocketAddr) -> Option<String> {
    let get = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    // Why not is worth knowing where a test fails.
    get().inspect_err(|error| eprintln!("{address}: {error}")).ok()
}

/// Waits for what happens beside the test.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within 5 s");
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn link_names() -> Vec<String> {
    let links = route::links(&mut Socket::route().unwrap()).unwrap();
    links.into_iter().map(|link| link.name).collect()
}

pub fn pod_links() -> usize {
    link_names().iter().filter(|name| name.starts_with("cq")).count()
}
