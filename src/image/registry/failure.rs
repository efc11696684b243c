//! What can go wrong between this machine and a registry, and whether to try again.

use std::time::{Duration, SystemTime};

use reqwest::{Response, StatusCode, header};

use super::{Host, Session};
use crate::image::Error;

/// How often the last host is asked again after a passing failure.
const ATTEMPTS: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A failure, and whether the same request may succeed later.
pub(super) struct Failure {
    /// Boxed, since most requests have none.
    pub(super) error: Box<Error>,
    pub(super) retry: Retry,
}

pub(super) enum Retry {
    Never,
    Soon,
    After(Duration),
}

impl Failure {
    pub(super) fn new(error: Error, retry: Retry) -> Self {
        Self { error: Box::new(error), retry }
    }
}

impl Session {
    pub(super) fn stalled(&self, host: &Host) -> Failure {
        let error = Error::Stalled {
            reference: self.reference.to_string(),
            host: host.name().to_owned(),
            seconds: self.progress_timeout.as_secs(),
        };
        Failure::new(error, Retry::Never)
    }

    pub(super) fn unreachable(&self, host: &Host, error: &reqwest::Error) -> Failure {
        let error = Error::Unreachable {
            reference: self.reference.to_string(),
            host: host.name().to_owned(),
            reason: describe(error),
        };
        Failure::new(error, Retry::Soon)
    }

    pub(super) fn protocol(&self, host: &Host, reason: impl Into<String>) -> Failure {
        let error = Error::Protocol {
            reference: self.reference.to_string(),
            host: host.name().to_owned(),
            reason: reason.into(),
        };
        Failure::new(error, Retry::Never)
    }

    /// The error that a status is, with a bounded look at what the registry says.
    pub(super) async fn refused(&self, host: &Host, what: &str, mut response: Response) -> Failure {
        let status = response.status();
        let after = retry_after(&response);
        let says = match tokio::time::timeout(Duration::from_secs(5), response.chunk()).await {
            Ok(Ok(Some(body))) => explanation(&body),
            _ => String::new(),
        };
        let reference = self.reference.to_string();
        let host = host.name().to_owned();
        let error = match status {
            StatusCode::NOT_FOUND => {
                let what = what.split('/').next().map(|w| w.trim_end_matches('s')).unwrap_or(what);
                Error::Unknown { what: what.to_owned(), reference, host, says }
            }
            StatusCode::UNAUTHORIZED => Error::Unauthenticated { reference, host, says },
            StatusCode::FORBIDDEN => Error::Forbidden { reference, host, says },
            status => Error::Status { reference, host, status: status.as_u16(), says },
        };
        let passing = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let retry = match after {
            _ if !passing => Retry::Never,
            Some(wait) => Retry::After(wait),
            None => Retry::Soon,
        };
        Failure::new(error, retry)
    }
}

/// Sleeps as long as the failure asks for, or gives it back when there is no use in it.
pub(super) async fn wait_before_retry(failure: Failure, attempt: u32) -> Result<(), Error> {
    let wait = match failure.retry {
        _ if attempt >= ATTEMPTS => return Err(*failure.error),
        Retry::Never => return Err(*failure.error),
        Retry::After(wait) => wait.min(LONGEST_WAIT),
        Retry::Soon => backoff(attempt),
    };
    tracing::debug!(error = %failure.error, ?wait, "trying again");
    tokio::time::sleep(wait).await;
    Ok(())
}

/// Doubling, with some chance in it so that many nodes do not come back at once.
fn backoff(attempt: u32) -> Duration {
    let base = Duration::from_millis(200) * 2u32.saturating_pow(attempt.min(7));
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base / 2 + base.mul_f64(f64::from(nanos % 1000) / 2000.0)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    wait_of(value, SystemTime::now())
}

/// The meaning of `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn wait_of(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The chain of an HTTP error without its address, which may hold a signature.
fn describe(error: &reqwest::Error) -> String {
    let mut text =
        if error.is_timeout() { "it does not answer in time" } else { "the connection failed" }
            .to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        source = error.source();
        if source.is_none() {
            text = format!("{text}: {error}");
        }
    }
    text
}

/// The first message of a registry's error document, short and on one line.
fn explanation(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        message: String,
    }
    let Ok(document) = serde_json::from_slice::<Errors>(body) else { return String::new() };
    let Some(item) = document.errors.into_iter().next() else { return String::new() };
    let message: String = item.message.chars().filter(|c| !c.is_control()).take(200).collect();
    if message.is_empty() { message } else { format!(" (it says: {message})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_when_to_come_back_in_seconds_or_by_date() {
        let now = httpdate::parse_http_date("Fri, 06 Nov 2026 08:49:37 GMT").unwrap();
        for (value, seconds) in [
            (" 7 ", Some(7)),
            ("Fri, 06 Nov 2026 08:50:07 GMT", Some(30)),
            ("Fri, 06 Nov 2020 08:50:07 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(wait_of(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
