//! The HTTP server below all streams: connections, TLS, and the upgrade.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    error::Error,
    handshake::{self, Purpose, Refusal, refuse},
    options::Options,
    serve,
    transport::{Life, Transport},
    urls::{self, Urls},
    waiting::{Place, Waiting},
};
use crate::{pod::Pods, tls::TlsFiles};

/// How long a client may take to show its token: for the handshake of TLS, and for the head
/// of its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How many clients there may be that have not shown a token yet. One more takes the place of
/// the one that has waited longest: a client that means it needs its place for a moment.
const MAX_WAITING: usize = 64;

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// A server that listens.
pub struct Server {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

/// What all connections share.
struct Shared {
    pods: Arc<Pods>,
    urls: Arc<Urls>,
    options: Options,
    stop: CancellationToken,
    /// A slot for each session, which is had for a token alone.
    slots: Arc<Semaphore>,
    waiting: Arc<Waiting>,
}

impl Server {
    /// Listens and serves.
    ///
    /// # Errors
    /// An address that cannot be listened at, or TLS files that cannot be used.
    pub async fn start(options: Options, pods: Arc<Pods>) -> Result<Self, Error> {
        let tls = options.tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let address = SocketAddr::new(options.address, options.port);
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().map_err(failed)?);
        let urls = Arc::new(Urls::new(base));
        let stop = CancellationToken::new();
        let slots = Arc::new(Semaphore::new(options.max_sessions));
        let waiting = Arc::new(Waiting::new(MAX_WAITING));
        let shared = Arc::new(Shared { pods, urls, options, stop, slots, waiting });
        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&shared).accept(listener, tls, tasks.clone()));
        Ok(Self { shared, tasks })
    }

    /// What gives out URLs of this server.
    pub fn urls(&self) -> Arc<Urls> {
        Arc::clone(&self.shared.urls)
    }

    /// Tells all clients that it ends, and waits for `limit` until they know.
    pub async fn shut_down(self, limit: Duration) {
        self.shared.stop.cancel();
        self.tasks.close();
        if timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::info!(left = self.tasks.len(), "streams that do not end are given up");
        }
    }
}

impl Shared {
    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        tasks: TaskTracker,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                // Descriptors have run out: some are closed in a moment.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let place = Waiting::enter(&self.waiting);
            let (shared, tls, own) = (Arc::clone(&self), tls.clone(), tasks.clone());
            tasks.spawn(async move {
                tokio::select! {
                    _ = timeout(PATIENCE, shared.connection(stream, tls, own, &place)) => {}
                    () = place.lost() => {}
                    () = shared.stop.cancelled() => {}
                }
            });
        }
    }

    /// One request, which gets what its token is for or is refused, and is the last either way.
    async fn connection(
        self: &Arc<Self>,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
        tasks: TaskTracker,
        place: &Place,
    ) {
        // Keys that somebody types are not gathered.
        let _ = stream.set_nodelay(true);
        let transport = match tls {
            None => Transport::new(stream),
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => Transport::new(stream),
                // Nobody to tell: without TLS there is no common language.
                Err(_) => return,
            },
        };
        let service = service_fn(move |request| {
            let response = self.respond(request, &tasks, place).unwrap_or_else(|mut refusal| {
                // Another guess is another connection.
                refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                *refusal
            });
            let response = response.map(|text| Full::new(Bytes::from(text)));
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        // What is not HTTP has been answered as far as it can be.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(transport), service)
            .with_upgrades()
            .await;
    }

    fn respond(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        tasks: &TaskTracker,
        place: &Place,
    ) -> Result<Response<String>, Box<Refusal>> {
        let (wanted, slot) =
            self.admit(&request).map_err(|(status, reason)| refuse(status, reason))?;
        place.leave();
        let purpose = match wanted {
            urls::Request::PortForward(..) => Purpose::Ports,
            _ => Purpose::Command,
        };
        let (agreed, response) = handshake::negotiate(purpose, request.headers())?;
        let upgrade = hyper::upgrade::on(&mut request);
        let shared = Arc::clone(self);
        tasks.spawn(async move {
            // A client that does not wait for the answer is gone.
            let Ok(upgraded) = upgrade.await else { return };
            let transport = Transport::new(TokioIo::new(upgraded));
            let life = Life { over: CancellationToken::new(), stop: shared.stop.clone() };
            shared.session(wanted, agreed, transport, life, slot).await;
        });
        Ok(response)
    }

    /// What a token is for, and a slot for it. The token is used up only where there is one.
    fn admit(
        &self,
        request: &Request<Incoming>,
    ) -> Result<(urls::Request, OwnedSemaphorePermit), (StatusCode, &'static str)> {
        if ![Method::GET, Method::POST].contains(request.method()) {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "use GET or POST"));
        }
        let unknown = (StatusCode::NOT_FOUND, "there is no such URL, or it has been used");
        let path = request.uri().path();
        if !self.urls.knows(path) {
            return Err(unknown);
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            tracing::warn!(max = self.options.max_sessions, "a stream too many is refused");
            return Err((StatusCode::SERVICE_UNAVAILABLE, "there are too many sessions"));
        };
        Ok((self.urls.take(path).ok_or(unknown)?, slot))
    }

    /// Serves a client to its end; its slot is free as soon as it is gone, whatever of its
    /// command goes on.
    async fn session(
        &self,
        wanted: urls::Request,
        agreed: handshake::Agreed,
        transport: Transport,
        life: Life,
        slot: OwnedSemaphorePermit,
    ) {
        let (over, stop) = (life.over.clone(), life.stop.clone());
        let gone = async {
            over.cancelled().await;
            drop(slot);
            stop.cancelled().await;
        };
        tokio::select! {
            () = serve::serve(&self.pods, &self.options, wanted, agreed, transport, life) => {}
            () = gone => {}
        }
    }
}
