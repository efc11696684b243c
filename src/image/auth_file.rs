//! Docker's `config.json` as credentials of the node: `auths` by registry, or by the
//! beginning of a repository. Programs that give credentials are never started.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    Auth, Error,
    auth::{Credentials, bare_host},
    platform::null_is_default,
    rules::is_path_prefix,
};

/// The most that a file of credentials may have.
const LIMIT: u64 = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    #[serde(deserialize_with = "null_is_default")]
    auths: BTreeMap<String, Entry>,
    #[serde(deserialize_with = "null_is_default")]
    creds_store: String,
    #[serde(deserialize_with = "null_is_default")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Entry {
    #[serde(deserialize_with = "null_is_default")]
    auth: String,
    #[serde(deserialize_with = "null_is_default")]
    username: String,
    #[serde(deserialize_with = "null_is_default")]
    password: String,
    #[serde(deserialize_with = "null_is_default")]
    identitytoken: String,
    #[serde(deserialize_with = "null_is_default")]
    registrytoken: String,
}

/// The credentials of all files, the first file first.
#[derive(Default)]
pub(super) struct NodeAuth {
    entries: Vec<(String, Auth)>,
    /// Files that name programs for credentials.
    with_helpers: Vec<PathBuf>,
}

impl NodeAuth {
    /// Reads the files; one that is not there has no credentials.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, Error> {
        let mut all = Self::default();
        for path in files {
            let document = read(path).map_err(|reason| Error::AuthFile {
                path: path.clone(),
                reason: reason.to_string(),
            })?;
            if !document.creds_store.is_empty() || !document.cred_helpers.is_empty() {
                all.with_helpers.push(path.clone());
            }
            all.entries.extend(document.auths.into_iter().map(|(key, entry)| {
                let auth = entry.into_auth(&key);
                (key, auth)
            }));
        }
        Ok(all)
    }

    /// The credentials for a repository at a host: those of the longest name that fits.
    pub(super) fn credentials(&self, host: &str, repository: &str) -> Option<Credentials> {
        let mut best = None;
        for (key, auth) in &self.entries {
            let path = path_of(key);
            let is_better = best.as_ref().is_none_or(|(length, _)| path.len() > *length);
            if is_path_prefix(path, repository)
                && is_better
                && let Some(credentials) = auth.credentials("", host)
            {
                best = Some((path.len(), credentials));
            }
        }
        if best.is_none() && !self.with_helpers.is_empty() {
            tracing::warn!(
                files = ?self.with_helpers, host,
                "credsStore and credHelpers are not supported; write the credentials below auths"
            );
        }
        best.map(|(_, credentials)| credentials)
    }
}

impl Entry {
    fn into_auth(self, server: &str) -> Auth {
        Auth {
            username: self.username,
            password: self.password,
            auth: self.auth,
            server_address: server.to_owned(),
            identity_token: self.identitytoken,
            registry_token: self.registrytoken,
        }
    }
}

/// An error says where the text is wrong, and nothing of the text itself.
fn read(path: &Path) -> io::Result<Document> {
    let mut text = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
        file => file?.take(LIMIT).read_to_end(&mut text)?,
    };
    serde_json::from_slice(&text).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        io::Error::new(io::ErrorKind::InvalidData, format!("it is no config.json at {place}"))
    })
}

/// What comes behind the host, unless it is the version of an old address of Docker Hub.
fn path_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let path = rest[bare_host(key).len()..].trim_matches('/');
    if matches!(path, "v1" | "v2") { "" } else { path }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn node(text: &str) -> Result<NodeAuth, Error> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        fs::write(&file, text).unwrap();
        NodeAuth::read(&[directory.path().join("absent.json"), file])
    }

    #[test]
    fn the_longest_name_of_the_right_host_counts() {
        let node = node(
            r#"{"auths":{"quay.io":{"username":"all","password":"1"},
                "quay.io/team":{"username":"team","password":"2"},
                "https://index.docker.io/v1/":{"auth":"aHViOjM="},
                "idle.io":{}, "t.io":{"identitytoken":"i"}}, "credsStore":"desktop"}"#,
        )
        .unwrap();
        let password = |username: &str, password: &str| {
            Some(Credentials::Password { username: username.into(), password: password.into() })
        };
        for (host, repository, expected) in [
            ("quay.io", "other/app", password("all", "1")),
            ("quay.io", "team/app", password("team", "2")),
            ("quay.io", "teamwork/app", password("all", "1")),
            ("registry-1.docker.io", "library/a", password("hub", "3")),
            ("t.io", "a", Some(Credentials::Identity("i".into()))),
            ("idle.io", "a", None),
            ("quay.io.evil.net", "team/app", None),
        ] {
            assert_eq!(node.credentials(host, repository), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let error = node(r#"{"auths":{"quay.io":{"auth":"c2VjcmV0"#).err().unwrap();
        assert!(error.to_string().contains("config.json at line 1"), "{error}");
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
        assert!(node(r#"{"auths":null}"#).is_ok());
    }
}
