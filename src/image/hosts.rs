//! `hosts.toml`: which hosts serve a registry's images, and how to talk to them. The files
//! are read anew for each pull.

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

use super::Error;

const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

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

/// The hosts for `registry`, by the directories `HOST:PORT`, `HOST_PORT_` or `_default`.
pub(super) fn endpoints(directory: &Path, registry: &str) -> Result<Vec<Endpoint>, Error> {
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
    let file = File { path: directory, registry };
    Ok(vec![file.endpoint(&file.server(None)?, Fields::default())?])
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

struct File<'a> {
    path: &'a Path,
    registry: &'a str,
}

fn parse(text: &str, path: &Path, registry: &str) -> Result<Vec<Endpoint>, Error> {
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
fn certificates_only(directory: &Path, registry: &str) -> Result<Vec<Endpoint>, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, registry: &str) -> Vec<Endpoint> {
        parse(text, Path::new("/x/hosts.toml"), registry).unwrap()
    }

    #[test]
    fn defaults_without_a_file() {
        let empty = tempfile::tempdir().unwrap();
        for (registry, base) in [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("quay.io", "https://quay.io/v2"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
            ("localhost", "http://localhost/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
        ] {
            let found = endpoints(empty.path(), registry).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].base.as_str(), base);
        }
    }

    #[test]
    fn hosts_come_in_the_order_of_the_file() {
        let text = r#"
            server = "https://real.example"
            [host."https://z.example"]
            capabilities = ["pull"]
            dial_timeout = "1m500ms"
            [host."http://a.example:8080/proxy"]
            capabilities = ["pull", "resolve"]
            [host."http://a.example:8080/proxy".header]
            x-token = ["one", "two"]
            y = "three"
            [host."m.example/exact"]
            override_path = true
            skip_verify = true
        "#;
        let found = parsed(text, "docker.io");
        let bases: Vec<&str> = found.iter().map(|e| e.base.as_str()).collect();
        assert_eq!(
            bases,
            [
                "https://z.example/v2",
                "http://a.example:8080/proxy/v2",
                "https://m.example/exact",
                "https://real.example/v2"
            ]
        );
        assert_eq!((found[0].pull, found[0].resolve), (true, false));
        assert_eq!((found[3].pull, found[3].resolve), (true, true));
        assert_eq!(found[0].transport.dial_timeout, Duration::from_millis(60_500));
        assert_eq!(found[1].headers.get_all("x-token").iter().count(), 2);
        assert_eq!(found[1].host, "a.example:8080");
        assert!(found[2].transport.skip_verify && !found[3].transport.skip_verify);
    }

    #[test]
    fn wrong_files_name_themselves() {
        for text in [
            "server = 3",
            "host = 3",
            "[host.\"ftp://x\"]",
            "[host.\"https://u:p@x\"]",
            "[host.\"https://x\"]\ndial_timeout = \"soon\"",
            "[host.\"https://x\"]\nca = \"missing.pem\"",
            "[host.\"https://x\"]\nskip_verify = \"yes\"",
            "[host.\"https://x\".header]\n\"a b\" = \"c\"",
            "[",
        ] {
            let error = parse(text, Path::new("/x/hosts.toml"), "a.io").expect_err(text);
            assert!(error.to_string().contains("/x/hosts.toml"), "{error}");
        }
    }

    #[test]
    fn certificates_and_directories() {
        let root = tempfile::tempdir().unwrap();
        let host = root.path().join("r.example_5000_");
        fs::create_dir(&host).unwrap();
        fs::write(host.join("ca.crt"), "CA").unwrap();
        fs::write(host.join("me.cert"), "CERT").unwrap();
        fs::write(host.join("me.key"), "KEY").unwrap();
        let found = endpoints(root.path(), "r.example:5000").unwrap();
        assert_eq!(found[0].transport.authorities, [b"CA".to_vec()]);
        assert_eq!(found[0].transport.identity.as_deref(), Some(&b"CERT\nKEY\n"[..]));
        fs::write(
            host.join("hosts.toml"),
            "[host.\"https://m\"]\nca = [\"ca.crt\"]\nclient = [[\"me.cert\", \"me.key\"]]",
        )
        .unwrap();
        let found = endpoints(root.path(), "r.example:5000").unwrap();
        assert_eq!(found[0].transport.authorities, [b"CA".to_vec()]);
        assert_eq!(found[0].transport.identity.as_deref(), Some(&b"CERT\nKEY\n"[..]));
        assert!(found[1].transport.identity.is_none());
        let fallback = root.path().join("_default");
        fs::create_dir(&fallback).unwrap();
        fs::write(fallback.join("hosts.toml"), "[host.\"http://mirror\"]").unwrap();
        let found = endpoints(root.path(), "quay.io").unwrap();
        assert_eq!(found[0].base.as_str(), "http://mirror/v2");
        assert_eq!(found[1].base.as_str(), "https://quay.io/v2");
    }
}
