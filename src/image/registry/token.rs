//! From a challenge to an `Authorization` header: basic credentials, or a bearer token that
//! is fetched from where the registry says.

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    Response, StatusCode, Url,
    header::{self, HeaderValue},
};
use serde::Deserialize;

use super::{
    Failure, Host, Session,
    request::{origin, without_user},
};
use crate::image::{
    auth::{Challenge, Credentials},
    hosts::{Transport, is_loopback},
};

const TOKEN_LIMIT: u64 = 1 << 20;

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Session {
    /// The header that answers the challenges of a 401, if there is one to give.
    pub(super) async fn authorize(
        &self,
        host: &Host,
        response: &Response,
    ) -> Result<Option<HeaderValue>, Failure> {
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<Challenge> = headers
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(Challenge::parse)
            .collect();
        let find = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if let Some(challenge) = find("bearer") {
            if let Some(Credentials::Bearer(token)) = &host.credentials {
                return self.sensitive(host, format!("Bearer {token}")).map(Some);
            }
            if let Some(realm) = challenge.get("realm") {
                return self.token(host, realm, challenge).await.map(Some);
            }
        }
        match (find("basic"), &host.credentials) {
            (Some(_), Some(Credentials::Password { username, password })) => {
                self.sensitive(host, basic(username, password)).map(Some)
            }
            (_, Some(Credentials::Bearer(token))) => {
                self.sensitive(host, format!("Bearer {token}")).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn sensitive(&self, host: &Host, value: String) -> Result<HeaderValue, Failure> {
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            self.protocol(
                host,
                "the credentials or the token have characters that no header can have",
            )
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn token(
        &self,
        host: &Host,
        realm: &str,
        challenge: &Challenge,
    ) -> Result<HeaderValue, Failure> {
        let url = self.realm(host, realm)?;
        let client = if origin(&url) == origin(&host.endpoint.base) {
            host.client.clone()
        } else {
            let own = host.endpoint.transport.clone();
            let transport = |plain| Transport { loopback: false, plain, ..own };
            self.client_for(host, &url, transport).await?
        };
        let own_scope = format!("repository:{}:pull", self.reference.repository);
        let scope = challenge.get("scope").unwrap_or(&own_scope);
        let service = challenge.get("service").unwrap_or_default();
        let request = match &host.credentials {
            Some(Credentials::Identity(token)) => {
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", "criquet"),
                    ("scope", scope),
                    ("refresh_token", token),
                ];
                let body = form(&url, &fields);
                client
                    .post(url)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(body)
            }
            credentials => {
                let mut url = url;
                url.query_pairs_mut().append_pair("scope", scope);
                if !service.is_empty() {
                    url.query_pairs_mut().append_pair("service", service);
                }
                let request = client.get(url);
                match credentials {
                    Some(Credentials::Password { username, password }) => {
                        let value = self.sensitive(host, basic(username, password))?;
                        request.header(header::AUTHORIZATION, value)
                    }
                    _ => request,
                }
            }
        };
        let response = self.await_answer(host, request).await?;
        if response.status() == StatusCode::BAD_REQUEST && host.credentials.is_some() {
            // What OAuth servers say of a refresh token that is no longer good.
            let error = crate::image::Error::Unauthenticated {
                reference: self.reference.to_string(),
                host: host.name().to_owned(),
                says: String::new(),
            };
            return Err(Failure::new(error, super::Retry::Never));
        }
        if !response.status().is_success() {
            return Err(self.refused(host, "token", response).await);
        }
        let body = self.read_whole(host, response, TOKEN_LIMIT, "token").await?;
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        let token = token.and_then(|t| t.token.or(t.access_token)).filter(|t| !t.is_empty());
        let token = token.ok_or_else(|| self.protocol(host, "its token service gives no token"))?;
        self.sensitive(host, format!("Bearer {token}"))
    }

    /// Credentials travel to the realm only under encryption, unless the registry itself
    /// is asked in the clear.
    fn realm(&self, host: &Host, realm: &str) -> Result<Url, Failure> {
        let mut url =
            Url::parse(realm).map_err(|_| self.protocol(host, "its token realm is no address"))?;
        without_user(&mut url);
        let is_safe = url.scheme() == "https"
            || (url.scheme() == "http"
                && (host.endpoint.transport.plain
                    || is_loopback(url.host_str().unwrap_or_default())));
        if is_safe { Ok(url) } else { Err(self.protocol(host, "its token realm is not https")) }
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}

/// The fields as a form's body, in the encoding that queries have too.
fn form(address: &Url, fields: &[(&str, &str)]) -> String {
    let mut url = address.clone();
    url.set_query(None);
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}
