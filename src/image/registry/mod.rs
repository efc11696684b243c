//! The pull half of the OCI distribution protocol: one [`Session`] for one pull, which
//! knows the hosts to ask, authenticates to each, and falls through from mirrors to the
//! registry itself. It knows digests and limits, not what the content means.

mod blob;
mod clients;
mod failure;
mod names;
mod pace;
mod request;
mod retry;
mod token;
mod zone;

use std::{net::IpAddr, sync::Arc};

use reqwest::{Response, header};
use tokio::sync::{Mutex, OnceCell};

pub(super) use blob::{Blob, Interrupted, Sink};
pub(super) use clients::Clients;
use failure::{Failure, Retry};
pub(super) use pace::Limits;
use request::Span;
use retry::Retries;
use zone::Zones;

use super::{
    Auth, Digest, Error,
    auth::Credentials,
    auth_file::NodeAuth,
    hosts::Endpoint,
    manifest::{ACCEPT, MANIFEST_LIMIT},
    reference::{Reference, Version},
};

/// One pull's conversation with the hosts that may have the image.
pub(super) struct Session {
    pub(super) reference: Reference,
    hosts: Vec<Host>,
    limits: Limits,
    clients: Clients,
}

struct Host {
    endpoint: Endpoint,
    client: reqwest::Client,
    credentials: Option<Credentials>,
    /// What the host was last content with.
    authorization: Mutex<Option<header::HeaderValue>>,
    /// Where it may lead to.
    zones: OnceCell<Zones>,
}

impl Session {
    pub(super) fn new(
        reference: Reference,
        endpoints: Vec<Endpoint>,
        auth: Option<&Auth>,
        node: &NodeAuth,
        clients: &Clients,
        limits: Limits,
    ) -> Result<Self, Error> {
        let hosts = endpoints.into_iter().map(|endpoint| {
            let given = auth.and_then(|auth| auth.credentials(&reference.registry, &endpoint.host));
            let credentials =
                given.or_else(|| node.credentials(&endpoint.host, &reference.repository));
            Ok(Host {
                client: clients.for_transport(&endpoint.transport, None, &endpoint.host)?,
                credentials,
                authorization: Mutex::new(None),
                zones: OnceCell::new(),
                endpoint,
            })
        });
        let hosts = hosts.collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { reference, hosts, limits, clients: clients.clone() })
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

    /// A manifest of the same repository by its tag; nothing where there is none.
    pub(super) async fn manifest_of_tag(
        &self,
        tag: &str,
    ) -> Result<Option<(Vec<u8>, String)>, Error> {
        match self.document("manifests", tag, None, MANIFEST_LIMIT).await {
            Ok((bytes, media_type, _)) => Ok(Some((bytes, media_type))),
            Err(Error::Unknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
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
        let mut retries = Retries::default();
        let mut index = 0;
        loop {
            let Some(host) = hosts.get(index) else { return Err(self.no_host()) };
            match self.ask(host, &path, accept, expected, limit).await {
                Ok(answer) => return Ok(answer),
                // A mirror gets one chance, the last host several.
                Err(failure) if index + 1 < hosts.len() => {
                    tracing::debug!(host = host.name(), error = %failure.error, "mirror passed over");
                    retries.passed_over(failure);
                    index += 1;
                }
                Err(failure) => retries.wait(failure).await?,
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
        let response = self.get(host, path, accept, Span::default()).await?;
        let media_type = response.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let bytes = self.read_whole(host, response, limit, path).await?;
        let found = expected.map_or_else(|| Digest::of(&bytes), |digest| digest.same_of(&bytes));
        match expected {
            Some(expected) if *expected != found => {
                let what = format!("{path} of image {} from {}", self.reference, host.name());
                let error = Error::Corrupt { what, expected: *expected, found: Box::new(found) };
                Err(Failure::new(error, Retry::Never))
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

    /// Reads a bounded body. All of it has to come within the progress timeout: a registry
    /// that sends a byte now and then gets nowhere.
    async fn read_whole(
        &self,
        host: &Host,
        mut response: Response,
        limit: u64,
        what: &str,
    ) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let reading = async {
            while let Some(chunk) = self.chunk(host, &mut response).await? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() as u64 > limit {
                    let what = format!("{what} of image {}", self.reference);
                    let error = Error::Limit { what, limit: format!("{} MiB", limit >> 20) };
                    return Err(Failure::new(error, Retry::Never));
                }
            }
            Ok(())
        };
        match tokio::time::timeout(self.limits.window, reading).await {
            Ok(result) => result.map(|()| bytes),
            Err(_) => Err(self.stalled(host)),
        }
    }

    /// The next part of a body.
    async fn chunk(
        &self,
        host: &Host,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, Failure> {
        match tokio::time::timeout(self.limits.window, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(self.unreachable(host, &error)),
            Err(_) => Err(self.stalled(host)),
        }
    }
}

impl Host {
    /// The zones that the host may send requests to, by where it is itself.
    async fn zones(&self, clients: &Clients) -> Zones {
        let find = || async {
            let url = &self.endpoint.base;
            let addresses: Vec<IpAddr> = match zone::literal(url) {
                Some(address) => vec![address],
                None => clients.names.addresses(url.host_str().unwrap_or_default()).await,
            };
            Zones::around(addresses)
        };
        *self.zones.get_or_init(find).await
    }

    fn name(&self) -> &str {
        &self.endpoint.host
    }
}

/// A session shared by the tasks of one pull.
pub(super) type SharedSession = Arc<Session>;
