//! One `hosts.toml` file, or Docker's layout of certificates, as endpoints.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;

use super::{Endpoint, Transport, is_loopback};
use crate::image::Error;

const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// The fields of a host; those of the server itself stand at the top of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany<PathBuf>>,
    client: Option<OneOrMany<OneOrMany<PathBuf>>>,
    skip_verify: Option<bool>,
    header: toml::Table,
    override_path: bool,
    dial_timeout: Option<String>,
}

struct File<'a> {
    path: &'a Path,
    registry: &'a str,
}

/// The registry itself, with nothing said about it.
pub(super) fn without_file(directory: &Path, registry: &str) -> Result<Vec<Endpoint>, Error> {
    let file = File { path: directory, registry };
    Ok(vec![file.endpoint(&file.server(None)?, Fields::default())?])
}

pub(in super::super) fn parse(
    text: &str,
    path: &Path,
    registry: &str,
) -> Result<Vec<Endpoint>, Error> {
    let file = File { path, registry };
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| file.wrong(error.to_string()))?;
    let hosts = match table.remove("host") {
        None => toml::Table::new(),
        Some(toml::Value::Table(hosts)) => hosts,
        Some(_) => return Err(file.wrong("host must be a table, as in [host.\"https://mirror\"]")),
    };
    let server = match table.remove("server") {
        None => None,
        Some(toml::Value::String(server)) => Some(server),
        Some(_) => return Err(file.wrong("server must be an address in quotes")),
    };
    let mut endpoints = Vec::with_capacity(hosts.len() + 1);
    for (address, fields) in hosts {
        endpoints.push(file.endpoint(&file.url(&address)?, file.fields(fields)?)?);
    }
    let server = file.server(server.as_deref().filter(|server| !server.is_empty()))?;
    endpoints.push(file.endpoint(&server, file.fields(toml::Value::Table(table))?)?);
    Ok(endpoints)
}

/// Docker's layout: `*.crt` are authorities, `NAME.cert` and `NAME.key` a client's identity.
pub(super) fn certificates_only(directory: &Path, registry: &str) -> Result<Vec<Endpoint>, Error> {
    let file = File { path: directory, registry };
    let entries = fs::read_dir(directory).map_err(|error| file.wrong(error.to_string()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let with = |extension: &'static str| {
        paths.iter().filter(move |p| p.extension().is_some_and(|e| e == extension)).cloned()
    };
    let client = with("cert").next().map(|cert| {
        let key = cert.with_extension("key");
        OneOrMany::Many(vec![OneOrMany::Many(vec![cert, key])])
    });
    let fields =
        Fields { ca: Some(OneOrMany::Many(with("crt").collect())), client, ..Fields::default() };
    Ok(vec![file.endpoint(&file.server(None)?, fields)?])
}

impl File<'_> {
    fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Hosts { path: self.path.to_owned(), reason: reason.into() }
    }

    fn fields(&self, value: toml::Value) -> Result<Fields, Error> {
        value.try_into().map_err(|error: toml::de::Error| self.wrong(error.message().to_owned()))
    }

    /// The registry itself, where the file does not name another server.
    fn server(&self, server: Option<&str>) -> Result<Url, Error> {
        match server {
            Some(address) => self.url(address),
            None if self.registry == "docker.io" => self.url("https://registry-1.docker.io"),
            None => self.url(self.registry),
        }
    }

    /// An address without a scheme is HTTPS, unless it is of this machine.
    fn url(&self, address: &str) -> Result<Url, Error> {
        let address = if address.contains("://") {
            address.to_owned()
        } else {
            let scheme = if is_loopback(address) { "http" } else { "https" };
            format!("{scheme}://{address}")
        };
        let url =
            Url::parse(&address).map_err(|error| self.wrong(format!("{address:?}: {error}")))?;
        let usable = matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none();
        if !usable {
            return Err(
                self.wrong(format!("{address:?} is not an http or https address of a host"))
            );
        }
        Ok(url)
    }

    fn endpoint(&self, address: &Url, fields: Fields) -> Result<Endpoint, Error> {
        let mut base = address.clone();
        let path = base.path().trim_end_matches('/').to_owned();
        if fields.override_path || path.ends_with("/v2") {
            base.set_path(&path);
        } else {
            base.set_path(&format!("{path}/v2"));
        }
        let host = match (base.host_str(), base.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let can = |what: &str| {
            fields.capabilities.as_ref().is_none_or(|all| all.iter().any(|c| c == what))
        };
        Ok(Endpoint {
            resolve: can("resolve"),
            pull: can("pull"),
            headers: self.headers(&fields.header)?,
            transport: Transport {
                authorities: self.authorities(fields.ca)?,
                identity: self.identity(fields.client)?,
                skip_verify: fields.skip_verify.unwrap_or(false),
                dial_timeout: self.duration(fields.dial_timeout.as_deref())?,
                loopback: is_loopback(&host),
                plain: base.scheme() == "http",
            },
            base,
            host,
        })
    }

    fn headers(&self, table: &toml::Table) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in table {
            let values = match value {
                toml::Value::String(one) => vec![one.as_str()],
                toml::Value::Array(many) => many.iter().filter_map(|v| v.as_str()).collect(),
                _ => {
                    return Err(
                        self.wrong(format!("header {name} must be a text or a list of texts"))
                    );
                }
            };
            let name: HeaderName = name
                .parse()
                .map_err(|_| self.wrong(format!("{name:?} is not the name of a header")))?;
            for value in values {
                let mut value: HeaderValue = value.parse().map_err(|_| {
                    self.wrong(format!("the value of header {name} has control characters"))
                })?;
                value.set_sensitive(true);
                headers.append(name.clone(), value);
            }
        }
        Ok(headers)
    }

    /// Relative paths are relative to the file.
    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let path = self.path.parent().unwrap_or(Path::new("/")).join(path);
        fs::read(&path).map_err(|error| self.wrong(format!("{}: {error}", path.display())))
    }

    fn authorities(&self, paths: Option<OneOrMany<PathBuf>>) -> Result<Vec<Vec<u8>>, Error> {
        let paths = paths.map(OneOrMany::into_vec).unwrap_or_default();
        paths.iter().map(|path| self.read(path)).collect()
    }

    /// The first client certificate: one PEM file with certificate and key, or a pair.
    fn identity(
        &self,
        client: Option<OneOrMany<OneOrMany<PathBuf>>>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(first) = client.map(OneOrMany::into_vec).and_then(|all| all.into_iter().next())
        else {
            return Ok(None);
        };
        let mut identity = Vec::new();
        for path in first.into_vec().iter().filter(|path| !path.as_os_str().is_empty()) {
            identity.extend(self.read(path)?);
            identity.push(b'\n');
        }
        Ok(Some(identity))
    }

    fn duration(&self, text: Option<&str>) -> Result<Duration, Error> {
        let Some(text) = text else { return Ok(DIAL_TIMEOUT) };
        parse_duration(text).ok_or_else(|| {
            self.wrong(format!("dial_timeout {text:?} is not a duration such as \"3s\""))
        })
    }
}

/// Durations as Go writes them: `1m30s`, `500ms`, `1.5s`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = after;
    }
    Some(total)
}
