//! The pull half of the OCI distribution protocol: one [`Session`] for one pull, which
//! knows the hosts to ask, authenticates to each, and falls through from mirrors to the
//! registry itself. It knows digests and limits, not what the content means.

mod blob;
mod clients;
mod request;
mod token;

use std::{sync::Arc, time::Duration};

use reqwest::{Response, StatusCode, header};
use tokio::sync::Mutex;

pub(super) use blob::Interrupted;
pub(super) use clients::Clients;

use super::{
    Auth, Digest, Error,
    auth::Credentials,
    hosts::Endpoint,
    manifest::{ACCEPT, MANIFEST_LIMIT},
    reference::{Reference, Version},
};

/// How often the last host is asked again after a passing failure.
const ATTEMPTS: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One pull's conversation with the hosts that may have the image.
pub(super) struct Session {
    pub(super) reference: Reference,
    hosts: Vec<Host>,
    progress_timeout: Duration,
}

struct Host {
    endpoint: Endpoint,
    client: reqwest::Client,
    /// For redirects to other hosts: without this host's certificates.
    elsewhere: reqwest::Client,
    credentials: Option<Credentials>,
    /// What the host was last content with.
    authorization: Mutex<Option<header::HeaderValue>>,
}

/// A failure, and whether the same request may succeed later.
struct Failure {
    error: Error,
    retry: Retry,
}

enum Retry {
    Never,
    Soon,
    After(Duration),
}

impl Session {
    pub(super) fn new(
        reference: Reference,
        endpoints: Vec<Endpoint>,
        auth: Option<&Auth>,
        clients: &Clients,
        progress_timeout: Duration,
    ) -> Result<Self, Error> {
        let hosts = endpoints.into_iter().map(|endpoint| {
            let credentials =
                auth.and_then(|auth| auth.credentials(&reference.registry, &endpoint.host));
            Ok(Host {
                client: clients.for_transport(&endpoint.transport, &endpoint.host)?,
                elsewhere: clients.for_others()?,
                credentials,
                authorization: Mutex::new(None),
                endpoint,
            })
        });
        let hosts = hosts.collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { reference, hosts, progress_timeout })
    }

    /// The document that the reference names, its media type and its digest.
    pub(super) async fn manifest(&self) -> Result<(Vec<u8>, String, Digest), Error> {
        let (version, expected) = match &self.reference.version {
            Version::Tag(tag) => (tag.clone(), None),
            Version::Digest(digest) => (digest.to_string(), Some(digest)),
        };
        self.document("manifests", &version, expected, MANIFEST_LIMIT).await
    }

    /// A manifest by its digest.
    pub(super) async fn manifest_at(&self, digest: &Digest) -> Result<(Vec<u8>, String), Error> {
        let version = digest.to_string();
        let (bytes, media_type, _) =
            self.document("manifests", &version, Some(digest), MANIFEST_LIMIT).await?;
        Ok((bytes, media_type))
    }

    /// A small blob, held whole.
    pub(super) async fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        Ok(self.document("blobs", &digest.to_string(), Some(digest), limit).await?.0)
    }

    async fn document(
        &self,
        what: &str,
        version: &str,
        expected: Option<&Digest>,
        limit: u64,
    ) -> Result<(Vec<u8>, String, Digest), Error> {
        let hosts = self.able_hosts(expected.is_none());
        let path = format!("{what}/{version}");
        let accept = (what == "manifests").then_some(ACCEPT);
        let mut attempt = 0;
        let mut index = 0;
        loop {
            let Some(host) = hosts.get(index) else { return Err(self.no_host()) };
            match self.ask(host, &path, accept, expected, limit).await {
                Ok(answer) => return Ok(answer),
                // A mirror gets one chance, the last host several.
                Err(failure) if index + 1 < hosts.len() => {
                    tracing::debug!(host = host.name(), error = %failure.error, "mirror passed over");
                    index += 1;
                }
                Err(failure) => {
                    attempt += 1;
                    wait_before_retry(failure, attempt).await?;
                }
            }
        }
    }

    /// Asks one host once for a document.
    async fn ask(
        &self,
        host: &Host,
        path: &str,
        accept: Option<&'static str>,
        expected: Option<&Digest>,
        limit: u64,
    ) -> Result<(Vec<u8>, String, Digest), Failure> {
        let response = self.get(host, path, accept, 0).await?;
        let media_type = response.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let bytes = self.read_whole(host, response, limit, path).await?;
        let found = Digest::of(&bytes);
        match expected {
            Some(expected) if *expected != found => {
                let what = format!("{path} of image {} from {}", self.reference, host.name());
                let error = Error::Corrupt { what, expected: *expected, found };
                Err(Failure { error, retry: Retry::Never })
            }
            _ => Ok((bytes, media_type, found)),
        }
    }

    fn able_hosts(&self, resolve: bool) -> Vec<&Host> {
        let able = |host: &&Host| if resolve { host.endpoint.resolve } else { host.endpoint.pull };
        self.hosts.iter().filter(able).collect()
    }

    fn no_host(&self) -> Error {
        Error::Unreachable {
            reference: self.reference.to_string(),
            host: self.reference.registry.clone(),
            reason: "no host of its hosts.toml has the capability that this needs".to_owned(),
        }
    }

    /// Reads a bounded body, with the progress timeout between its parts.
    async fn read_whole(
        &self,
        host: &Host,
        mut response: Response,
        limit: u64,
        what: &str,
    ) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(host, &mut response).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                let what = format!("{what} of image {}", self.reference);
                let error = Error::Limit { what, limit: format!("{} MiB", limit >> 20) };
                return Err(Failure { error, retry: Retry::Never });
            }
        }
        Ok(bytes)
    }

    /// The next part of a body.
    async fn chunk(
        &self,
        host: &Host,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, Failure> {
        match tokio::time::timeout(self.progress_timeout, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(self.unreachable(host, &error)),
            Err(_) => Err(self.stalled(host)),
        }
    }

    fn stalled(&self, host: &Host) -> Failure {
        let error = Error::Stalled {
            reference: self.reference.to_string(),
            host: host.name().to_owned(),
            seconds: self.progress_timeout.as_secs(),
        };
        Failure { error, retry: Retry::Never }
    }

    fn unreachable(&self, host: &Host, error: &reqwest::Error) -> Failure {
        let error = Error::Unreachable {
            reference: self.reference.to_string(),
            host: host.name().to_owned(),
            reason: describe(error),
        };
        Failure { error, retry: Retry::Soon }
    }

    fn protocol(&self, host: &Host, reason: impl Into<String>) -> Failure {
        let error = Error::Protocol {
            reference: self.reference.to_string(),
            host: host.name().to_owned(),
            reason: reason.into(),
        };
        Failure { error, retry: Retry::Never }
    }

    /// The error that a status is, with a bounded look at what the registry says.
    async fn refused(&self, host: &Host, what: &str, mut response: Response) -> Failure {
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
        Failure { error, retry }
    }
}

impl Host {
    fn name(&self) -> &str {
        &self.endpoint.host
    }
}

/// Sleeps as long as the failure asks for, or gives it back when there is no use in it.
async fn wait_before_retry(failure: Failure, attempt: u32) -> Result<(), Error> {
    let wait = match failure.retry {
        _ if attempt >= ATTEMPTS => return Err(failure.error),
        Retry::Never => return Err(failure.error),
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
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base / 2 + base.mul_f64(f64::from(nanos % 1000) / 2000.0)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
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

/// A session shared by the tasks of one pull.
pub(super) type SharedSession = Arc<Session>;
