//! Calls through the layer, and the endpoint, from outside.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use prometheus_client::{encoding::prometheus_text::encode, registry::Registry};
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
