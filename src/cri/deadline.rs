//! Deadlines of callers, answered as gRPC wants it.
//!
//! A caller says in the header `grpc-timeout` how long it waits. tonic drops a call that takes
//! longer, but answers `CANCELLED`, which clients take for their own doing; the code for it is
//! `DEADLINE_EXCEEDED`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// Wraps a service so that it keeps deadlines.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner }
    }
}

/// A service that keeps deadlines.
#[derive(Debug, Clone)]
pub struct Deadline<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Deadline<S>
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
        let limit = timeout_of(request.headers());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let Some(limit) = limit else { return answer.await };
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded(
                    "the call took longer than its deadline; what it began goes on, and a repeat joins it",
                )
                .into_http()),
            }
        })
    }
}

/// At most eight digits and a unit (gRPC over HTTP/2, "Timeout"). A tenth less, so that this
/// answer comes before tonic's own.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = digits.parse::<u32>().ok().filter(|_| digits.len() <= 8)?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    let limit = unit.checked_mul(number)?;
    Some(limit.saturating_sub((limit / 10).min(Duration::from_millis(1))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::timeout_of;

    #[test]
    fn timeouts_have_units() {
        let parse = |text: &str| {
            timeout_of(&HeaderMap::from_iter([(
                "grpc-timeout".parse().unwrap(),
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(parse("2S"), Some(Duration::from_millis(1999)));
        assert_eq!(parse("1000u"), Some(Duration::from_micros(900)));
        for wrong in ["", "S", "1", "123456789S", "1x", "-1S"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(timeout_of(&HeaderMap::new()), None);
    }
}
