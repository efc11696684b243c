//! Where Prometheus comes in: HTTP, GET alone, on a Unix socket or an address.
//!
//! A scraper is a stranger. There is a bounded number of connections, each is there for one
//! request and for a bounded time, and all who ask within a second get one and the same text.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{Mutex, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::tls::{self, TlsFiles};

/// Connections at one time.
const CONNECTIONS: usize = 16;

/// How long a client may take for the handshake of TLS, and for the head of its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may last.
const LIFE: Duration = Duration::from_secs(15);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How old a text may be.
const FRESH: Duration = Duration::from_secs(1);

/// The pauses between attempts to listen: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// The pause after a connection that cannot be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket, for root alone.
    Socket(PathBuf),
    /// An address.
    Address(SocketAddr),
}

/// What an administrator decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen.
    pub listen: Listen,
    /// Files for TLS; none for plain HTTP.
    pub tls: Option<TlsFiles>,
}

/// Makes the text that is served.
pub type Source =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

/// An endpoint that listens until it is dropped.
pub struct Endpoint {
    _stop: DropGuard,
    socket: Option<PathBuf>,
}

struct Shared {
    source: Source,
    // Held while a text is made, so that those who ask at the same time wait for the same one.
    last: Mutex<Option<(Instant, Bytes)>>,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
}

enum Listener {
    Socket(UnixListener),
    Address(TcpListener, Option<TlsAcceptor>),
}

impl Endpoint {
    /// Listens and serves. A place that is taken keeps nobody from anything, and is tried
    /// again: an old daemon that hangs in the kernel still has it.
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub async fn start(options: &Options, source: Source) -> Result<Self, tls::Error> {
        let tls = options.tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let stop = CancellationToken::new();
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let shared = Shared { source, last: Mutex::default(), slots, stop: stop.clone() };
        let (shared, listen) = (Arc::new(shared), options.listen.clone());
        let first = listen.bind(&tls).await;
        match first {
            Ok(listener) => {
                info!(%listen, "metrics are served");
                tokio::spawn(shared.accept(listener));
            }
            Err(error) => {
                warn!(%listen, %error, "metrics are not served yet; this is tried again");
                tokio::spawn(shared.listen_later(listen, tls));
            }
        }
        let socket = match &options.listen {
            Listen::Socket(path) => Some(path.clone()),
            Listen::Address(_) => None,
        };
        Ok(Self { _stop: stop.drop_guard(), socket })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // It is only a name; the next daemon removes it as well.
            let _ = fs::remove_file(socket);
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Socket(path) => write!(formatter, "unix://{}", path.display()),
            Listen::Address(address) => write!(formatter, "{address}"),
        }
    }
}

impl Listen {
    async fn bind(&self, tls: &Option<TlsAcceptor>) -> io::Result<Listener> {
        Ok(match self {
            Listen::Socket(path) => Listener::Socket(bind(path).await?),
            Listen::Address(address) => {
                Listener::Address(TcpListener::bind(address).await?, tls.clone())
            }
        })
    }
}

/// Clients that wait to be heard.
const BACKLOG: i32 = 128;

/// A socket in place of one that nobody listens at any more.
async fn bind(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match fs::symlink_metadata(path) {
        Ok(old) if old.file_type().is_socket() => fs::remove_file(path)?,
        _ => {}
    }
    // Its file has the mode that it has when it is bound: nobody else connects before that.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, 0o600.into())?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

impl Shared {
    async fn listen_later(self: Arc<Self>, listen: Listen, tls: Option<TlsAcceptor>) {
        let mut pause = PAUSES[0];
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
            if let Ok(listener) = listen.bind(&tls).await {
                info!(%listen, "metrics are served");
                return self.accept(listener).await;
            }
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    async fn accept(self: Arc<Self>, listener: Listener) {
        loop {
            // Those for whom there is no place wait in the kernel's queue.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.next(&listener) => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok(connection) => {
                    let stop = self.stop.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = timeout(LIFE, connection) => {}
                            () = stop.cancelled() => {}
                        }
                        drop(slot);
                    });
                }
                // Descriptors have run out, most likely.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn next(
        self: &Arc<Self>,
        listener: &Listener,
    ) -> io::Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let shared = Arc::clone(self);
        Ok(match listener {
            Listener::Socket(listener) => {
                let (stream, _) = listener.accept().await?;
                Box::pin(shared.connection(stream))
            }
            Listener::Address(listener, None) => {
                let (stream, _) = listener.accept().await?;
                Box::pin(shared.connection(stream))
            }
            Listener::Address(listener, Some(tls)) => {
                let (stream, _) = listener.accept().await?;
                let tls = tls.clone();
                Box::pin(async move {
                    // Without TLS there is no language in which to say more.
                    if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                        shared.connection(stream).await;
                    }
                })
            }
        })
    }

    async fn connection(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            let shared = Arc::clone(&self);
            async move { Ok::<_, std::convert::Infallible>(shared.respond(&request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(MAX_HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // What is not HTTP has been answered as far as it can be.
        let _ = connection.await;
    }

    async fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
            response
                .headers_mut()
                .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if request.uri().path() != "/metrics" {
            return text(StatusCode::NOT_FOUND, "metrics are at /metrics\n".into());
        }
        match self.text().await {
            Ok(metrics) => text(StatusCode::OK, metrics),
            Err(words) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{words}\n").into()),
        }
    }

    async fn text(&self) -> Result<Bytes, String> {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let text = Bytes::from((self.source)().await?);
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

fn text(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
