//! What probes ask, and what is done at the start and the end of a container.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};

use crate::{
    cli::node::Pods,
    cri::v1::ExecSyncRequest,
    play::{Action, Http},
};

/// The most of what a command prints that is told where it fails.
const SHOWN: usize = 200;

/// Does it, within a time.
///
/// # Errors
/// Why it is not well, in words.
pub(super) async fn ask(
    action: &Action,
    limit: Duration,
    pods: &Pods,
    container: &str,
    address: &str,
) -> Result<(), String> {
    let asked = async {
        match action {
            Action::Exec(command) => exec(pods.clone(), container, command, limit).await,
            Action::Http(request) => http(request, address).await,
            Action::Tcp { host, port } => {
                let host = host.as_deref().unwrap_or(address);
                let connected = TcpStream::connect((host, *port)).await;
                connected.map(drop).map_err(|error| format!("{host} port {port}: {error}"))
            }
            Action::Grpc { port, service } => grpc(*port, service, address).await,
            Action::Sleep(time) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
        }
    };
    // A command has the daemon's own limit, which tells more.
    match timeout(limit + Duration::from_millis(500), asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

async fn exec(
    mut pods: Pods,
    container: &str,
    command: &[String],
    limit: Duration,
) -> Result<(), String> {
    let request = ExecSyncRequest {
        container_id: container.to_owned(),
        cmd: command.to_vec(),
        timeout: i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX),
    };
    let answer = pods.exec_sync(request).await.map_err(|status| status.message().to_owned())?;
    let answer = answer.into_inner();
    if answer.exit_code == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
    let said: String = said.trim().chars().take(SHOWN).collect();
    let command = command.first().map(String::as_str).unwrap_or_default();
    Err(format!("{command} ended with {}: {said}", answer.exit_code)
        .trim_end_matches(": ")
        .to_owned())
}

/// Every answer from 200 to 399 is a good one.
async fn http(request: &Http, address: &str) -> Result<(), String> {
    let scheme = if request.is_tls { "https" } else { "http" };
    let host = request.host.as_deref().unwrap_or(address);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let url = format!("{scheme}://{host}:{}{}", request.port, request.path);
    let failed = |error: reqwest::Error| format!("{url}: {}", crate::kind::chain(&error));
    // Only the first counts; it is needed for plain HTTP as well.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("kube-probe/criquet-", env!("CARGO_PKG_VERSION")))
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(failed)?;
    let mut get = client.get(&url);
    for (name, value) in &request.headers {
        get = get.header(name, value);
    }
    let status = get.send().await.map_err(failed)?.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("{url}: {status}"))
    }
}

/// `HealthCheckRequest` of `grpc.health.v1`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SERVING` of its states.
const SERVING: i32 = 1;

async fn grpc(port: u16, service: &str, address: &str) -> Result<(), String> {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let place = format!("{host}:{port}");
    let endpoint = Endpoint::from_shared(format!("http://{place}"));
    let channel = endpoint.map_err(|error| error.to_string())?.connect().await;
    let channel = channel.map_err(|error| format!("{place}: {}", crate::kind::chain(&error)))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| format!("{place}: {error}"))?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<HealthRequest, HealthResponse>::default();
    let request = tonic::Request::new(HealthRequest { service: service.to_owned() });
    let answer = client.unary(request, path, codec).await;
    match answer.map(|answer| answer.into_inner().status) {
        Ok(SERVING) => Ok(()),
        Ok(other) => Err(format!("{place}: it does not serve (state {other})")),
        Err(status) => Err(format!("{place}: {}", status.message())),
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A server that answers each request so, and what it was asked first.
    async fn server(answer: &'static str) -> (u16, tokio::sync::oneshot::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, asked) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut sender = Some(sender);
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let count = stream.read(&mut request).await.unwrap_or(0);
                if let Some(sender) = sender.take() {
                    let _ = sender.send(String::from_utf8_lossy(&request[..count]).into_owned());
                }
                // Whoever only wanted to connect is gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (port, asked)
    }

    async fn asked(action: Action, limit: u64) -> Result<(), String> {
        let pods = Pods::new(crate::admin::client::channel("/nowhere".into()));
        ask(&action, Duration::from_millis(limit), &pods, "c", "127.0.0.1").await
    }

    /// Health as `grpc.health.v1` has it; of a service `ill` it is bad.
    #[derive(Clone)]
    struct Health;

    impl tonic::server::NamedService for Health {
        const NAME: &'static str = "grpc.health.v1.Health";
    }

    impl tower::Service<http::Request<tonic::body::Body>> for Health {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = tonic::codegen::BoxFuture<Self::Response, Self::Error>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            Box::pin(async move {
                let codec = tonic_prost::ProstCodec::<HealthResponse, HealthRequest>::default();
                Ok(tonic::server::Grpc::new(codec).unary(Health, request).await)
            })
        }
    }

    impl tonic::server::UnaryService<HealthRequest> for Health {
        type Response = HealthResponse;
        type Future = std::future::Ready<Result<tonic::Response<HealthResponse>, tonic::Status>>;

        fn call(&mut self, request: tonic::Request<HealthRequest>) -> Self::Future {
            let status = if request.into_inner().service == "ill" { 2 } else { SERVING };
            std::future::ready(Ok(tonic::Response::new(HealthResponse { status })))
        }
    }

    #[tokio::test]
    async fn the_health_service_of_grpc() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(Health);
        tokio::spawn(server.serve_with_incoming(incoming));
        let grpc = |service: &str| Action::Grpc { port, service: service.to_owned() };
        asked(grpc(""), 5000).await.unwrap();
        let ill = asked(grpc("ill"), 5000).await.unwrap_err();
        assert!(ill.ends_with("it does not serve (state 2)"), "{ill}");
    }

    fn get(port: u16) -> Action {
        let headers = vec![("X-Probe".to_owned(), "yes".to_owned())];
        Action::Http(Http {
            is_tls: false,
            host: None,
            port,
            path: "/health?x=1".to_owned(),
            headers,
        })
    }

    #[tokio::test]
    async fn answers_from_200_to_399_are_good() {
        let (port, request) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
        asked(get(port), 5000).await.unwrap();
        let request = request.await.unwrap();
        assert!(request.starts_with("GET /health?x=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("x-probe: yes"), "{request}");
        let (port, _) =
            server("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n").await;
        asked(get(port), 5000).await.unwrap();
        let (port, _) = server("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
        assert!(asked(get(port), 5000).await.unwrap_err().contains("503"));
    }

    #[tokio::test]
    async fn who_does_not_listen_or_answer_is_not_well() {
        let (port, _) = server("").await;
        asked(Action::Tcp { host: None, port }, 5000).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // It listens, and never answers.
        assert_eq!(asked(get(port), 10).await.unwrap_err(), "no answer within 0 s");
        drop(listener);
        assert!(asked(Action::Tcp { host: None, port }, 5000).await.is_err());
        let grpc = Action::Grpc { port, service: String::new() };
        assert!(asked(grpc, 5000).await.unwrap_err().contains(&port.to_string()));
        let exec = Action::Exec(vec!["true".to_owned()]);
        assert!(asked(exec, 5000).await.is_err(), "there is no daemon");
    }
}
