//! HTTP clients, kept by their transport settings so that connections are reused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, Client, Identity, redirect::Policy};

use super::super::{Error, hosts::Transport};

/// More settings than this at once are not worth keeping.
const KEPT: usize = 64;

/// All clients; a copy has the same ones.
#[derive(Clone, Default)]
pub(in super::super) struct Clients {
    // A short critical section: a look-up, or the making of one client.
    by_transport: Arc<Mutex<HashMap<Transport, Client>>>,
}

impl Clients {
    /// A client for a host's settings.
    pub(super) fn for_transport(&self, transport: &Transport, host: &str) -> Result<Client, Error> {
        let mut clients = self.by_transport.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(transport) {
            return Ok(client.clone());
        }
        let client = build(transport).map_err(|error| Error::Hosts {
            path: host.into(),
            reason: format!("its certificates cannot be used: {error}"),
        })?;
        if clients.len() >= KEPT {
            clients.clear();
        }
        clients.insert(transport.clone(), client.clone());
        Ok(client)
    }

    /// A client for hosts that a redirect names: the system's certificates, no identity.
    pub(super) fn for_others(&self) -> Result<Client, Error> {
        let transport = Transport {
            authorities: Vec::new(),
            identity: None,
            skip_verify: false,
            dial_timeout: Duration::from_secs(30),
            loopback: false,
            plain: false,
        };
        self.for_transport(&transport, "redirect")
    }
}

fn build(transport: &Transport) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("criquet/", env!("CARGO_PKG_VERSION")))
        // Redirects are followed by hand, without the credentials.
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(transport.dial_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .http2_adaptive_window(true)
        .tls_danger_accept_invalid_certs(transport.skip_verify);
    if transport.loopback {
        builder = builder.no_proxy();
    }
    let mut authorities = Vec::new();
    for pem in &transport.authorities {
        authorities.extend(Certificate::from_pem_bundle(pem)?);
    }
    if transport.plain {
        // No certificate is ever looked at; this leaves out reading the system's.
        builder = builder.tls_certs_only(authorities);
    } else if !authorities.is_empty() {
        builder = builder.tls_certs_merge(authorities);
    }
    if let Some(pem) = &transport.identity {
        builder = builder.identity(Identity::from_pem(pem)?);
    }
    builder.build()
}
