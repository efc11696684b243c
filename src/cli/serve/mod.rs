//! `criquet serve`: the daemon, from an empty process to one that serves and back.

mod authority;
mod incoming;
mod locks;
mod signals;

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use oci_spec::runtime::{Capability, PosixRlimitType};
use thiserror::Error;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::oneshot,
};
use tonic::transport::Server;
use tracing::{info, warn};

use super::config::{self, Config};
use crate::{
    admin::{Administrator, metrics::Metrics, v1::admin_server::AdminServer},
    cri::{
        DeadlineLayer, ImageServer, RuntimeServer,
        v1::{
            image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer,
        },
    },
    image::{self, ImageStore},
    monitor::client::{self, Program},
    network::{self, Network},
    pod::{self, CgroupDriver, Parts, Pods},
    runtime::{cgroup::Version, ground},
    spec::{capabilities, container::Node, ulimit},
    store::{self, Database, Durability},
    streaming,
    sys::{hardening, process::Identity, socket},
    systemd::Systemd,
    telemetry::{
        Calls, Operations, Tracing, TracingOptions,
        endpoint::{self, Endpoint},
    },
    tls,
};

pub(super) use locks::{lock_network, lock_root};

/// The longest request, in bytes; that of the kubelet's client.
const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// How long calls that are under way at the end may take.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the disk may take to note that this is an orderly end.
const CLOSE: Duration = Duration::from_secs(2);

/// How long clients of streams have to take note of the end.
const DRAIN_STREAMS: Duration = Duration::from_secs(3);

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The socket that the CRI is served on.
    pub listen: PathBuf,
    /// The monitor's program.
    pub monitor: PathBuf,
    /// Pods.
    pub pods: pod::Options,
    /// Networks.
    pub network: network::Options,
    /// Images.
    pub images: image::Options,
    /// Streams of exec, attach and port forwarding.
    pub streaming: streaming::Options,
    /// Figures; none to serve none.
    pub metrics: Option<endpoint::Options>,
    /// Traces; none to make none.
    pub tracing: Option<TracingOptions>,
    /// Whether pods can have user namespaces.
    pub user_namespaces: bool,
}

/// What keeps the daemon from serving.
#[derive(Debug, Error)]
pub enum Error {
    /// Something that one daemon alone can have belongs to another.
    #[error(
        "another criquet uses the {what} {}{owner}; stop it, or give this one values of its own \
         for all of: root, state, listen, netns_dir, cgroup_parent, image.root, network.bridge, \
         network.table and network.subnet_v4 and subnet_v6",
        name.display()
    )]
    InUse {
        /// What it is.
        what: &'static str,
        /// Its name or path.
        name: PathBuf,
        /// Who has it, with a leading space, or nothing.
        owner: String,
    },
    /// Somebody answers at the socket.
    #[error("another server listens at {}; stop it, or give this one a --listen of its own", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// A file or socket cannot be used.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// State.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Images.
    #[error("cannot open the image store")]
    Images(#[from] image::Error),
    /// Networks.
    #[error("cannot open the networks")]
    Network(#[from] network::Error),
    /// The monitor.
    #[error(transparent)]
    Monitor(#[from] client::Error),
    /// The driver of cgroups cannot be had.
    #[error("cgroup_driver is \"systemd\", and {reason}; set it to \"auto\" or \"cgroupfs\"")]
    NoSystemd {
        /// What is missing.
        reason: &'static str,
    },
    /// Pods.
    #[error("cannot recover the pods")]
    Pods(#[from] pod::Error),
    /// Streams.
    #[error(transparent)]
    Streaming(#[from] streaming::Error),
    /// Figures.
    #[error("metrics cannot be served with TLS")]
    Metrics(#[from] tls::Error),
    /// Traces.
    #[error("traces cannot be sent to tracing.endpoint: {0}")]
    Tracing(String),
    /// The server.
    #[error("the server ended")]
    Serve(#[from] tonic::transport::Error),
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}

/// Reads the configuration again.
pub type Load = Box<dyn Fn() -> Result<Config, config::Error> + Send + Sync>;

/// What SIGHUP needs.
pub struct Reload {
    /// Reads the configuration.
    pub load: Load,
    /// Changes what is logged.
    pub set_level: Box<dyn Fn(&str) + Send + Sync>,
    /// The configuration that holds.
    pub config: Config,
}

/// Serves until SIGTERM or SIGINT. Pods run on afterwards. SIGHUP reads the
/// configuration again.
///
/// # Errors
/// What keeps the daemon from serving.
pub async fn run(settings: Settings, reload: Reload) -> Result<(), Error> {
    protect_process();
    // A disk that does not answer, or another process's lock, must not keep SIGTERM away.
    let opening = async {
        let locks = {
            let settings = settings.clone();
            aside(move || locks::lock_all(&settings)).await?
        };
        let node = node(settings.user_namespaces)?;
        let listener = listen(&settings.listen).await?;
        let (pods, database) = open(&settings, node).await?;
        Ok::<_, Error>((locks, listener, pods, database))
    };
    let mut end = std::pin::pin!(signals::end());
    let (_locks, listener, pods, database) = tokio::select! {
        opened = opening => opened?,
        () = &mut end => return Ok(()),
    };
    let images = Arc::clone(pods.images());
    let reporting = tokio::spawn(signals::dump(Arc::clone(&pods)));
    let reloading = tokio::spawn(signals::reload(Arc::clone(&pods), reload));
    images.collect_later();
    if images.is_suspicious() {
        verify_aside(Arc::clone(&images))?;
    }
    let streams = streaming::Server::start(settings.streaming.clone(), Arc::clone(&pods)).await?;

    let tracing = settings.tracing.as_ref().map(Tracing::start).transpose();
    let tracing = tracing.map_err(|error| Error::Tracing(error.to_string()))?;
    let figures = Metrics::new(Arc::clone(&pods));
    let _endpoint = serve_metrics(&settings, &figures).await?;
    let calls = Calls::new(pods.operations().shared_figures(), tracing.clone());

    let (stop, stopped) = oneshot::channel();
    let limit = MAX_REQUEST;
    let server = Server::builder()
        .layer(calls)
        .layer(DeadlineLayer)
        .add_service(
            RuntimeServiceServer::new(RuntimeServer::new(Arc::clone(&pods), streams.urls()))
                .max_decoding_message_size(limit),
        )
        .add_service(
            ImageServiceServer::new(ImageServer::new(Arc::clone(&pods)))
                .max_decoding_message_size(limit),
        )
        .add_service(AdminServer::new(Administrator::new(pods, figures, settings.listen.clone())))
        .serve_with_incoming_shutdown(incoming::connections(listener), async {
            // The sender dropped means the end as well.
            let _ = stopped.await;
        });
    info!(socket = %settings.listen.display(), "serving");
    notify(&[sd_notify::NotifyState::Ready]);

    let mut server = tokio::spawn(server);
    let early = tokio::select! {
        () = end => None,
        ended = &mut server => Some(ended),
    };
    notify(&[sd_notify::NotifyState::Stopping]);
    reloading.abort();
    reporting.abort();
    let _ = stop.send(());
    streams.shut_down(DRAIN_STREAMS).await;
    let drained = match early {
        Some(ended) => Ok(ended),
        None => tokio::time::timeout(DRAIN, server).await,
    };
    match drained {
        Ok(Ok(result)) => result?,
        Ok(Err(_)) => warn!("the server was ended by a panic"),
        Err(_) => info!("calls that were under way are given up; repeats will join them"),
    }
    let closing = async {
        if let Err(error) = aside(move || Ok(images.close()?)).await {
            warn!(error = %crate::kind::chain(&error), "cannot note the orderly end");
        }
        database.settled().await;
    };
    let flushing = async {
        if let Some(tracing) = tracing {
            // It has a limit of its own.
            let _ = tokio::task::spawn_blocking(move || tracing.shut_down()).await;
        }
    };
    let closing = async { tokio::join!(closing, flushing) };
    if tokio::time::timeout(CLOSE, closing).await.is_err() {
        warn!("the disk does not answer; the end is not noted");
    }
    // Only the name that is ours: a daemon that was started meanwhile has another.
    let _ = fs::remove_file(&settings.listen);
    info!("stopped; pods run on");
    Ok(())
}

/// Whatever the daemon was started with: its files have the modes that they are made with, and
/// its memory, which holds credentials, goes into no core and to no other user.
fn protect_process() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let behavior = rustix::process::DumpableBehavior::NotDumpable;
    if let Err(error) = rustix::process::set_dumpable_behavior(behavior) {
        warn!(%error, "a crash would leave the daemon's memory in a core");
    }
    if let Err(error) = hardening::deny_write_execute() {
        tracing::debug!(%error, "the daemon could have memory that is written and executed");
    }
}

/// Serves figures where somebody is to get them, as long as the endpoint is kept.
async fn serve_metrics(
    settings: &Settings,
    figures: &Arc<Metrics>,
) -> Result<Option<Endpoint>, Error> {
    let Some(options) = &settings.metrics else { return Ok(None) };
    let figures = Arc::clone(figures);
    let source = Box::new(move || -> Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(Arc::clone(&figures).text())
    });
    Ok(Some(Endpoint::start(options, source).await?))
}

/// After a power cut all content of images is read and compared, behind everything else that
/// wants the disk.
fn verify_aside(images: Arc<ImageStore>) -> Result<(), Error> {
    warn!("the machine went down without an orderly end; images are verified");
    let verify = move || {
        if let Err(error) = crate::sys::priority::only_when_idle() {
            warn!(%error, "verification takes its share of the disk");
        }
        match images.verify() {
            Ok(removed) => info!(removed = removed.len(), "images are verified"),
            Err(error) => warn!(error = %crate::kind::chain(&error), "images cannot be verified"),
        }
    };
    let name = "verify".to_owned();
    let failed = io_error("start a thread of", Path::new("the image store"));
    std::thread::Builder::new().name(name).spawn(verify).map(drop).map_err(failed)
}

/// Does work with files on a thread that serves nobody.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let failed = |_| io::Error::other("a thread has ended by a panic");
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(failed).map_err(io_error("start", Path::new("the daemon")))?
}

async fn listen(path: &Path) -> Result<UnixListener, Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io_error("create directory", parent))?;
    }
    // The locks are ours by now, so that one who was killed and cannot end listens for nobody.
    let listens = |stream: UnixStream| {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let process = pid.and_then(|pid| Identity::of(pid.cast_unsigned()).ok());
        process.is_none_or(|process| !process.is_over())
    };
    if UnixStream::connect(path).await.is_ok_and(listens) {
        return Err(Error::SocketInUse { path: path.to_owned() });
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove old socket", path)(error));
        }
        _ => {}
    }
    // Whoever can connect is root on this node.
    let listener = socket::listen_privately(path).map_err(io_error("listen at", path))?;
    UnixListener::from_std(listener).map_err(io_error("listen at", path))
}

async fn open(settings: &Settings, node: Node) -> Result<(Arc<Pods>, Arc<Database>), Error> {
    let parts = {
        let settings = settings.clone();
        aside(move || open_parts(&settings, node)).await?
    };
    let database = Arc::clone(&parts.database);
    Ok((Pods::open(settings.pods.clone(), parts).await?, database))
}

fn open_parts(settings: &Settings, node: Node) -> Result<Parts, Error> {
    let path = settings.pods.root.join("state.db");
    let database = Arc::new(Database::open(&path, Durability::Process)?);
    let images = Arc::new(Database::open_again(&path, Durability::Power)?);
    let cgroups = Version::detect().map_err(io_error("inspect", Path::new("/sys/fs/cgroup")))?;
    Ok(Parts {
        systemd: systemd(settings.pods.cgroup_driver, cgroups)?,
        images: Arc::new(ImageStore::open(settings.images.clone(), images)?),
        network: Network::open(settings.network.clone(), Arc::clone(&database))?,
        program: Program::load(&settings.monitor)?,
        template: template(&settings.pods.state),
        cgroups,
        node,
        database,
        operations: Operations::new(Arc::default()),
    })
}

/// What mount namespaces begin with. Without it every start copies the mounts of this node,
/// which is slower and no worse.
fn template(place: &Path) -> Option<OwnedFd> {
    ground::template(place)
        .inspect_err(|error| {
            let error = error.full_message();
            warn!(error, "each start will copy the mount table of this node");
        })
        .ok()
}

/// systemd, where it can make cgroups on this node, and it must not be missing where it is
/// asked for.
fn systemd(driver: CgroupDriver, cgroups: Version) -> Result<Option<Systemd>, Error> {
    let found = Systemd::of_this_machine().filter(|_| cgroups == Version::V2);
    match (driver, &found) {
        (CgroupDriver::Systemd, None) => Err(Error::NoSystemd {
            reason: match cgroups {
                Version::V2 => "systemd does not run this node",
                Version::V1 => "this node has cgroup v1, where Criquet has cgroupfs alone",
            },
        }),
        _ => Ok(found),
    }
}

/// What this daemon may give to containers.
fn node(user_namespaces: bool) -> Result<Node, Error> {
    let path = Path::new("/proc/self/status");
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let bits = text
        .lines()
        .find_map(|line| line.strip_prefix("CapPrm:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0);
    let capabilities = capabilities::from_bits(bits);
    let mut lowest_oom_score_adj = -1000;
    if !capabilities.contains(&Capability::SysResource) {
        let path = Path::new("/proc/self/oom_score_adj");
        let own = fs::read_to_string(path).map_err(io_error("read", path))?;
        lowest_oom_score_adj = own.trim().parse().unwrap_or(0);
        warn!(
            lowest_oom_score_adj,
            "without CAP_SYS_RESOURCE lower OOM score adjustments of containers are raised to \
             this one"
        );
    }
    let hard_limits = match capabilities.contains(&Capability::SysResource) {
        true => Vec::new(),
        false => hard_limits(),
    };
    let processors = processors();
    Ok(Node { capabilities, lowest_oom_score_adj, processors, user_namespaces, hard_limits })
}

/// What limits of processes this one has; nobody raises them without `CAP_SYS_RESOURCE`.
fn hard_limits() -> Vec<(PosixRlimitType, u64)> {
    use rustix::process::{Resource as R, getrlimit};
    let resources = [
        R::As,
        R::Core,
        R::Cpu,
        R::Data,
        R::Fsize,
        R::Locks,
        R::Memlock,
        R::Msgqueue,
        R::Nice,
        R::Nofile,
        R::Nproc,
        R::Rss,
        R::Rtprio,
        R::Rttime,
        R::Sigpending,
        R::Stack,
    ];
    let kinds = ulimit::ALL.into_iter().map(|(_, kind)| kind);
    let limit = |resource| getrlimit(resource).maximum.unwrap_or(ulimit::UNLIMITED);
    kinds.zip(resources.map(limit)).collect()
}

/// The last of `0-7` and one more; those that cannot be told are one.
fn processors() -> u32 {
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = possible.trim().rsplit(['-', ',']).next().and_then(|last| last.parse().ok());
    last.map_or(1, |last: u32| last.saturating_add(1))
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify systemd");
    }
}
