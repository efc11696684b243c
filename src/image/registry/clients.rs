//! HTTP clients, kept by their transport settings so that connections are reused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect::Policy};

use super::{names::Names, zone::Zones};
use crate::image::{Error, hosts::Transport};

/// More settings than this at once are not worth keeping.
const KEPT: usize = 64;

type Settings = (Transport, Option<Zones>);

/// All clients; a copy has the same ones.
#[derive(Clone, Default)]
pub(in super::super) struct Clients {
    // A short critical section: a look-up, or the making of one client.
    by_settings: Arc<Mutex<HashMap<Settings, Client>>>,
    pub(super) names: Names,
}

impl Clients {
    /// A client for a host's settings; one that a registry sends elsewhere, with the zones that
    /// it may be sent to. Reads the system's certificates.
    pub(super) fn for_transport(
        &self,
        transport: &Transport,
        zones: Option<Zones>,
        host: &str,
    ) -> Result<Client, Error> {
        let key = (transport.clone(), zones);
        let mut clients = self.by_settings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let names = zones.map_or_else(|| self.names.clone(), |zones| self.names.within(zones));
        let client = build(transport, names).map_err(|error| Error::Hosts {
            path: host.into(),
            reason: format!("its certificates cannot be used: {error}"),
        })?;
        if clients.len() >= KEPT {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// The settings for hosts that a redirect names: the system's certificates, no identity.
pub(super) fn elsewhere(plain: bool) -> Transport {
    Transport {
        authorities: Vec::new(),
        identity: None,
        skip_verify: false,
        dial_timeout: Duration::from_secs(30),
        loopback: false,
        plain,
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Settings(#[from] reqwest::Error),
    #[error(
        "this node has none of the authorities' either, so install ca-certificates on it, or name a ca in hosts.toml ({0})"
    )]
    NoAuthorities(reqwest::Error),
}

fn build(transport: &Transport, names: Names) -> Result<Client, Unusable> {
    let mut authorities = Vec::new();
    for pem in &transport.authorities {
        authorities.extend(Certificate::from_pem_bundle(pem)?);
    }
    let builder = builder(transport, names.clone())?;
    if transport.plain {
        // No certificate is ever looked at; this leaves out reading the system's.
        return Ok(builder.tls_certs_only(authorities).build()?);
    }
    let with_system = match &authorities[..] {
        [] => builder.build(),
        own => builder.tls_certs_merge(own.to_vec()).build(),
    };
    match with_system {
        Ok(client) => Ok(client),
        // A node without certificates needs none where the host brings its own.
        Err(error) if authorities.is_empty() && !transport.skip_verify => {
            Err(Unusable::NoAuthorities(error))
        }
        Err(_) => Ok(self::builder(transport, names)?.tls_certs_only(authorities).build()?),
    }
}

fn builder(transport: &Transport, names: Names) -> Result<ClientBuilder, reqwest::Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("criquet/", env!("CARGO_PKG_VERSION")))
        // Redirects are followed by hand, without the credentials.
        .redirect(Policy::none())
        .referer(false)
        .dns_resolver(Arc::new(names))
        .connect_timeout(transport.dial_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .http2_adaptive_window(true)
        .tls_danger_accept_invalid_certs(transport.skip_verify);
    if transport.loopback {
        builder = builder.no_proxy();
    }
    if let Some(pem) = &transport.identity {
        builder = builder.identity(Identity::from_pem(pem)?);
    }
    Ok(builder)
}
