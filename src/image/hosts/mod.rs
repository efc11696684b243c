//! `hosts.toml`: which hosts serve a registry's images, and how to talk to them. The files
//! are read anew for each pull.

mod file;
#[cfg(test)]
mod tests;

use std::{fs, path::Path, time::Duration};

use reqwest::{Url, header::HeaderMap};

use super::Error;
pub(super) use file::parse;
use file::{certificates_only, without_file};

/// A host to ask, in the order of the file; the registry itself comes last.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Ends with the version's path and no slash, as in `https://mirror.example/v2`.
    pub(super) base: Url,
    /// Host and port, for messages and credentials.
    pub(super) host: String,
    /// May turn tags into digests.
    pub(super) resolve: bool,
    /// May serve content.
    pub(super) pull: bool,
    pub(super) headers: HeaderMap,
    pub(super) transport: Transport,
}

/// All that makes one HTTP client unlike another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Transport {
    /// PEM texts.
    pub(super) authorities: Vec<Vec<u8>>,
    /// Certificate chain and key as one PEM text.
    pub(super) identity: Option<Vec<u8>>,
    pub(super) skip_verify: bool,
    pub(super) dial_timeout: Duration,
    /// Proxies are not for hosts of this machine.
    pub(super) loopback: bool,
    /// Plain HTTP: needs no certificates of the system.
    pub(super) plain: bool,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("skip_verify", &self.skip_verify).finish_non_exhaustive()
    }
}

/// The hosts for `registry`, by the directories `HOST:PORT`, `HOST_PORT_` or `_default`. An
/// insecure registry's own certificate may be any, and it may also speak plain HTTP.
pub(super) fn endpoints(
    directory: &Path,
    registry: &str,
    insecure: bool,
) -> Result<Vec<Endpoint>, Error> {
    let mut endpoints = configured(directory, registry)?;
    if insecure && let Some(own) = endpoints.last_mut().filter(|own| own.base.scheme() == "https") {
        own.transport.skip_verify = true;
        let mut plain = own.clone();
        plain.transport.plain = true;
        if plain.base.set_scheme("http").is_ok() {
            endpoints.push(plain);
        }
    }
    Ok(endpoints)
}

fn configured(directory: &Path, registry: &str) -> Result<Vec<Endpoint>, Error> {
    for name in directory_names(registry) {
        let directory = directory.join(name);
        let file = directory.join("hosts.toml");
        match fs::read_to_string(&file) {
            Ok(text) => return parse(&text, &file, registry),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::Hosts {
                    path: file,
                    reason: format!("it cannot be read: {error}"),
                });
            }
        }
        if directory.is_dir() {
            return certificates_only(&directory, registry);
        }
    }
    without_file(directory, registry)
}

fn directory_names(registry: &str) -> Vec<String> {
    let mut names = vec![registry.to_owned()];
    if let Some((host, port)) = registry.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names.push("_default".to_owned());
    names
}

/// Whether a host (with or without a port) is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
