//! The layer around the gRPC services: each call is counted once, with the code that it really
//! ended with, and is a span where it is traced.
//!
//! The code of an answer with messages stands in the trailers, after the last of them: a call
//! lasts until those are sent, or until its client goes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{
    Method, code,
    figures::Figures,
    trace::{self, Call, Tracing},
};

/// Wraps services so that their calls are counted and traced.
#[derive(Clone)]
pub struct Calls {
    figures: Arc<Figures>,
    tracing: Option<Tracing>,
}

impl Calls {
    /// A layer that counts, and that makes spans where they are wanted.
    pub fn new(figures: Arc<Figures>, tracing: Option<Tracing>) -> Self {
        Self { figures, tracing }
    }
}

impl<S> Layer<S> for Calls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, calls: self.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    calls: Calls,
}

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = Method::of_path(request.uri().path());
        let tracing = self.calls.tracing.as_ref();
        let span = tracing.and_then(|tracing| tracing.call(method, request.headers()));
        let running = Running::begin(Arc::clone(&self.calls.figures), method, span.clone());
        let answer = trace::within(span, self.inner.call(request));
        Box::pin(async move {
            let response = answer.await?;
            // An answer without messages has its code among its headers.
            if let Some(code) = code::of(response.headers()) {
                running.end(code);
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(Answer { body, running: Some(running) })))
        })
    }
}

/// A call that has not ended. One that is dropped was given up by its client.
struct Running {
    figures: Arc<Figures>,
    method: Method,
    since: Instant,
    span: Option<Call>,
    code: Code,
}

impl Running {
    fn begin(figures: Arc<Figures>, method: Method, span: Option<Call>) -> Self {
        figures.call_begins(method);
        Self { figures, method, since: Instant::now(), span, code: Code::Cancelled }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.figures.call_ends(self.method, self.code, self.since.elapsed());
        if let Some(span) = &self.span {
            span.ends(self.code);
        }
    }
}

/// The messages of an answer.
struct Answer {
    body: Body,
    running: Option<Running>,
}

impl Answer {
    fn ends(&mut self, code: Code) {
        if let Some(running) = self.running.take() {
            running.end(code);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.ends(code::of(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(status)) => {
                let code = status.code();
                self.ends(code);
            }
            None => self.ends(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
