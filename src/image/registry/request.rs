//! One request to one host: authentication, redirects, and the meaning of its status.

use std::time::Duration;

use reqwest::{
    Method, Response, StatusCode, Url,
    header::{self, HeaderValue},
};

use super::{Failure, Host, Retry, Session, clients::elsewhere, zone};
use crate::image::hosts::{Transport, is_loopback};

const REDIRECTS: usize = 5;
/// A host that takes longer than this to begin an answer is as good as down.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

impl Session {
    /// Gets `path` of the image's repository, or a part of what is there.
    pub(super) async fn get(
        &self,
        host: &Host,
        path: &str,
        accept: Option<&'static str>,
        span: Span,
    ) -> Result<Response, Failure> {
        let url = self.url(host, path);
        let shown = host.authorization.lock().await.clone();
        let mut response = self.send(host, &url, accept, span, shown.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // A token that has run out, or the first request of all.
            let Some(fresh) = self.authorize(host, &response).await? else {
                return Err(self.refused(host, path, response).await);
            };
            *host.authorization.lock().await = Some(fresh.clone());
            response = self.send(host, &url, accept, span, Some(&fresh)).await?;
        }
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(host, path, response).await)
    }

    fn url(&self, host: &Host, path: &str) -> Url {
        let mut url = host.endpoint.base.clone();
        url.set_path(&format!(
            "{}/{}/{path}",
            url.path().trim_end_matches('/'),
            self.reference.repository
        ));
        if host.name() != self.reference.registry && !is_docker_hub(host.name()) {
            url.query_pairs_mut().append_pair("ns", &self.reference.registry);
        }
        url
    }

    /// Sends a request and follows its redirects. Credentials and the host's own headers
    /// go to the host itself and to no other.
    async fn send(
        &self,
        host: &Host,
        url: &Url,
        accept: Option<&'static str>,
        span: Span,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let mut target = url.clone();
        for _ in 0..=REDIRECTS {
            let at_home = origin(&target) == origin(url);
            let client = match at_home {
                true => host.client.clone(),
                false => self.client_for(host, &target, elsewhere).await?,
            };
            let mut request = client.request(Method::GET, target.clone());
            if let Some(accept) = accept {
                request = request.header(header::ACCEPT, accept);
            }
            if let Some(range) = span.header() {
                request = request.header(header::RANGE, range);
            }
            if at_home {
                request = request.headers(host.endpoint.headers.clone());
                if let Some(authorization) = authorization {
                    request = request.header(header::AUTHORIZATION, authorization.clone());
                }
            }
            let response = self.await_answer(host, request).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            target = self.redirect(host, &target, &response)?;
        }
        Err(self.protocol(host, format!("it redirects more than {REDIRECTS} times")))
    }

    pub(super) async fn await_answer(
        &self,
        host: &Host,
        request: reqwest::RequestBuilder,
    ) -> Result<Response, Failure> {
        match tokio::time::timeout(self.limits.window.min(ANSWER_TIMEOUT), request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.unreachable(host, &error)),
            Err(_) => Err(Failure { retry: Retry::Soon, ..self.stalled(host) }),
        }
    }

    fn redirect(&self, host: &Host, from: &Url, response: &Response) -> Result<Url, Failure> {
        let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
        let target = location.and_then(|location| from.join(location).ok());
        let Some(mut target) = target else {
            return Err(self.protocol(host, "it redirects to nowhere"));
        };
        without_user(&mut target);
        let target_host = target.host_str().unwrap_or_default();
        let is_safe = target.scheme() == "https"
            || (target.scheme() == "http" && (from.scheme() == "http" || is_loopback(target_host)));
        if !is_safe {
            return Err(self.protocol(host, "it redirects from https to an address that is not"));
        }
        Ok(target)
    }
}

impl Session {
    /// A client for an address of another host, which the registry names.
    ///
    /// # Errors
    /// An address where the registry must not send anybody.
    pub(super) async fn client_for(
        &self,
        host: &Host,
        target: &Url,
        transport: impl FnOnce(bool) -> Transport,
    ) -> Result<reqwest::Client, Failure> {
        let zones = host.zones(&self.clients).await;
        if zone::literal(target).is_some_and(|address| !zones.allow(address)) {
            let target = target.host_str().unwrap_or_default();
            let reason = format!(
                "it leads to {target}, an address where the registry is not, and that is not public"
            );
            return Err(self.protocol(host, reason));
        }
        let transport = transport(target.scheme() == "http");
        let (clients, name) =
            (self.clients.clone(), target.host_str().unwrap_or_default().to_owned());
        let made = self
            .clients
            .names
            .workers()
            .run(move || clients.for_transport(&transport, Some(zones), &name))
            .await;
        made.map_err(|error| Failure::new(error, Retry::Never))
    }
}

/// Credentials in an address are the registry's idea and nobody else's.
pub(super) fn without_user(url: &mut Url) {
    // Both fail where an address cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// Which bytes of a document are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) start: u64,
    /// Nothing for all that there are.
    pub(super) end: Option<u64>,
}

impl Span {
    /// The value of the `Range` header; the whole needs none.
    fn header(self) -> Option<String> {
        match (self.start, self.end) {
            (0, None) => None,
            (start, None) => Some(format!("bytes={start}-")),
            (start, Some(end)) => Some(format!("bytes={start}-{}", end.saturating_sub(1))),
        }
    }
}

/// Scheme, host and port: what credentials are bound to.
pub(super) fn origin(url: &Url) -> (&str, Option<&str>, Option<u16>) {
    (url.scheme(), url.host_str(), url.port_or_known_default())
}

fn is_docker_hub(host: &str) -> bool {
    host == "registry-1.docker.io"
}
