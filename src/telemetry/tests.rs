//! Calls through the layer, and the endpoint, from outside.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use prometheus_client::{encoding::prometheus_text::encode, registry::Registry};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tonic::{Status, body::Body};
use tower::{Layer, Service, ServiceExt};

use super::{
    Calls, Figures,
    endpoint::{Endpoint, Listen, Options},
};
use crate::tls::TlsFiles;

const PATH: &str = "/runtime.v1.RuntimeService/Version";

fn text_of(figures: &Figures) -> String {
    let mut registry = Registry::default();
    figures.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

fn counted(figures: &Figures, method: &str, code: &str) -> bool {
    let line = format!("method=\"{method}\",code=\"{code}\"}} 1\n");
    text_of(figures)
        .split_inclusive('\n')
        .any(|found| found.starts_with("criquet_grpc_requests_total{") && found.ends_with(&line))
}

/// A service that answers everything with this.
fn service(
    figures: &Arc<Figures>,
    answer: impl Fn() -> Response<Body> + Clone + Send + 'static,
) -> impl Service<Request<()>, Response = Response<Body>, Error = Infallible> {
    let inner = tower::service_fn(move |_: Request<()>| {
        let answer = answer();
        async move { Ok::<_, Infallible>(answer) }
    });
    Calls::new(Arc::clone(figures), None).layer(inner)
}

fn request(path: &str) -> Request<()> {
    Request::builder().uri(path).body(()).unwrap()
}

fn messages() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("15"));
    let frames = [Frame::data(Bytes::from_static(b"message")), Frame::trailers(trailers)];
    let frames = tokio_stream::iter(frames.map(Ok::<_, Status>));
    Response::new(Body::new(UnsyncBoxBody::new(StreamBody::new(frames))))
}

#[tokio::test]
async fn a_call_is_counted_once_with_the_code_that_it_ended_with() {
    let figures = Arc::new(Figures::default());
    let refuse = || Status::not_found("there is none").into_http();
    service(&figures, refuse).oneshot(request(PATH)).await.unwrap();
    assert!(counted(&figures, "Version", "NotFound"), "{}", text_of(&figures));

    // The code of a stream is in its trailers; until then the call is under way.
    let answer = service(&figures, messages).oneshot(request("/x/y")).await.unwrap();
    assert!(!counted(&figures, "unknown", "DataLoss"));
    let in_flight = "criquet_grpc_requests_in_flight{service=\"unknown\",method=\"unknown\"}";
    assert!(text_of(&figures).contains(&format!("{in_flight} 1\n")));
    answer.into_body().collect().await.unwrap();
    assert!(counted(&figures, "unknown", "DataLoss"), "{}", text_of(&figures));
    assert!(text_of(&figures).contains(&format!("{in_flight} 0\n")));

    // A client that goes away has cancelled.
    let answer = service(&figures, messages).oneshot(request(PATH)).await.unwrap();
    drop(answer);
    assert!(counted(&figures, "Version", "Canceled"), "{}", text_of(&figures));
}

async fn ask(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_endpoint_answers_get_alone_and_makes_a_text_once_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let source = {
        let count = Arc::clone(&count);
        Box::new(move || -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Box::pin(async move { Ok(format!("figure {number}\n")) })
        })
    };
    let options = Options { listen: Listen::Socket(path.clone()), tls: None };
    let endpoint = Endpoint::start(&options, source).await.unwrap();
    for _ in 0..2 {
        let answer = ask(&path, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    for (line, code) in
        [("POST /metrics HTTP/1.1", "405"), ("GET / HTTP/1.1", "404"), ("nonsense", "400")]
    {
        let answer = ask(&path, &format!("{line}\r\nhost: x\r\ncontent-length: 0\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{line}: {answer}");
    }
    // More than there are places, who say nothing: they are ended, and others are served.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    let answer = ask(&path, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(endpoint);
    assert!(!path.exists());
}

/// A certificate that vouches for itself, and its key, as files.
fn certificate(
    directory: &std::path::Path,
    name: &str,
) -> (std::path::PathBuf, std::path::PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let paths = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    std::fs::write(&paths.0, certificate.pem()).unwrap();
    std::fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

#[tokio::test]
async fn with_tls_only_those_who_have_a_certificate_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let (server, server_key) = certificate(directory.path(), "server");
    let (client, client_key) = certificate(directory.path(), "client");
    // A port of this machine that is free now.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let files = TlsFiles {
        certificate: server.clone(),
        key: server_key,
        client_authorities: Some(client.clone()),
    };
    let options = Options { listen: Listen::Address(address), tls: Some(files) };
    let source = Box::new(|| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(async { Ok("figure 1\n".to_owned()) })
    });
    let _endpoint = Endpoint::start(&options, source).await.unwrap();
    let own = CertificateDer::from_pem_file(&client).unwrap();
    let key = PrivateKeyDer::from_pem_file(&client_key).unwrap();
    for (is_known, expected) in [(true, "figure 1\n"), (false, "")] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&server).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match is_known {
            true => builder.with_client_auth_cert(vec![own.clone()], key.clone_key()).unwrap(),
            false => builder.with_no_client_auth(),
        };
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let mut answer = Vec::new();
        // The refusal comes after the handshake, and where depends on the version.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(answer.split("\r\n\r\n").nth(1).unwrap_or_default(), expected, "{answer}");
    }
    // Plain HTTP has no answer.
    let mut plain = tokio::net::TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_place_that_another_one_has_is_taken_when_it_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let other = tokio::net::UnixListener::bind(&path).unwrap();
    let source = Box::new(|| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(async { Ok("figure 1\n".to_owned()) })
    });
    let options = Options { listen: Listen::Socket(path.clone()), tls: None };
    let endpoint = Endpoint::start(&options, source).await.unwrap();
    drop(other);
    let served = async {
        loop {
            if let Ok(mut stream) = UnixStream::connect(&path).await {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    let answer = tokio::time::timeout(limit, served).await.unwrap();
    assert!(answer.ends_with("figure 1\n"), "{answer}");
    drop(endpoint);
}
