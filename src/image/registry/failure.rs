//! What can go wrong between this machine and a registry, and whether to try again.

use std::time::{Duration, SystemTime};

use reqwest::{Response, StatusCode, header};

use super::{Host, Session, names::OutOfZone, pace::TooSlow};
use crate::image::Error;

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
        self.too_slow(host, TooSlow { received: 0, waited: self.limits.window })
    }

    pub(super) fn too_slow(&self, host: &Host, found: TooSlow) -> Failure {
        let error = Error::Stalled {
            reference: self.reference.to_string(),
            host: host.name().to_owned(),
            bytes: found.received,
            seconds: found.waited.as_secs(),
        };
        Failure::new(error, Retry::Never)
    }

    pub(super) fn unreachable(&self, host: &Host, error: &reqwest::Error) -> Failure {
        if chain(error).any(|error| error.is::<OutOfZone>()) {
            return self.protocol(host, format!("it leads elsewhere, and {OutOfZone}"));
        }
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
        let mut says = match tokio::time::timeout(Duration::from_secs(5), response.chunk()).await {
            Ok(Ok(Some(body))) => explanation(&body),
            _ => String::new(),
        };
        if let Some(wait) = after.filter(|wait| !wait.is_zero()) {
            says.push_str(&format!(" (it wants to be left alone for {} s)", wait.as_secs()));
        }
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
    if let Some(last) = chain(error).last() {
        text = format!("{text}: {last}");
    }
    text
}

/// What is behind an error, down to its cause.
fn chain(
    error: &dyn std::error::Error,
) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |error| error.source())
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
