//! Credentials, and whom they are for.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};

/// Credentials as a caller gives them; empty fields are absent.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// A user name.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Base64 of `username:password`.
    pub auth: String,
    /// The registry that these are for; without it, the registry of the image.
    pub server_address: String,
    /// A refresh token, to be exchanged for an access token.
    pub identity_token: String,
    /// A bearer token for the registry itself.
    pub registry_token: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}

/// What one host is shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Password { username: String, password: String },
    Identity(String),
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Auth {
    /// The credentials for `host`, when an image of `registry` is pulled. They go to the
    /// host they were given for and nowhere else: not to a mirror of it.
    pub(super) fn credentials(&self, registry: &str, host: &str) -> Option<Credentials> {
        let owner = match bare_host(&self.server_address) {
            "" => registry,
            server => server,
        };
        if canonical(owner) != canonical(host) {
            return None;
        }
        if !self.registry_token.is_empty() {
            return Some(Credentials::Bearer(self.registry_token.clone()));
        }
        if !self.identity_token.is_empty() {
            return Some(Credentials::Identity(self.identity_token.clone()));
        }
        if !self.username.is_empty() || !self.password.is_empty() {
            return Some(password(&self.username, &self.password));
        }
        let decoded = BASE64_STANDARD.decode(self.auth.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, secret) = text.split_once(':')?;
        Some(password(username, secret.trim_end_matches('\0')))
    }
}

fn password(username: &str, password: &str) -> Credentials {
    // The Docker way to say that the password is a refresh token.
    if username == "<token>" {
        return Credentials::Identity(password.to_owned());
    }
    Credentials::Password { username: username.to_owned(), password: password.to_owned() }
}

/// Host and port of an address that may have a scheme and a path.
pub(super) fn bare_host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// Docker Hub has three names; a port that the scheme implies says nothing.
fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All challenges of one header value; what does not parse ends the list.
    pub(super) fn parse(header: &str) -> Vec<Challenge> {
        let mut challenges: Vec<Challenge> = Vec::new();
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if word.is_empty() {
                return challenges;
            }
            let after_word = after.trim_start();
            match (after_word.strip_prefix('='), challenges.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let Some((value, after)) = parameter(value.trim_start()) else {
                        return challenges;
                    };
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                    rest = after;
                }
                (Some(_), None) => return challenges,
                (None, _) => {
                    let scheme = word.to_ascii_lowercase();
                    challenges.push(Challenge { scheme, parameters: Vec::new() });
                    rest = after;
                }
            }
        }
    }
}

/// A token or a quoted string, and what comes after it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[index + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_only_to_their_host() {
        let auth = |server: &str| Auth {
            username: "u".into(),
            password: "p".into(),
            server_address: server.into(),
            ..Auth::default()
        };
        for (server, registry, host, given) in [
            ("", "quay.io", "quay.io", true),
            ("", "quay.io", "mirror.local", false),
            ("", "docker.io", "registry-1.docker.io", true),
            ("https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", true),
            ("https://quay.io", "quay.io", "quay.io:443", true),
            ("other.io", "quay.io", "quay.io", false),
            ("mirror.local:5000", "quay.io", "mirror.local:5000", true),
            ("quay.io", "quay.io", "quay.io.evil.net", false),
        ] {
            let found = auth(server).credentials(registry, host).is_some();
            assert_eq!(found, given, "{server} {registry} {host}");
        }
    }

    #[test]
    fn forms_of_credentials() {
        let auth = Auth { auth: BASE64_STANDARD.encode("me:a:b\0"), ..Auth::default() };
        let expected = Credentials::Password { username: "me".into(), password: "a:b".into() };
        assert_eq!(auth.credentials("q.io", "q.io"), Some(expected));
        let broken = Auth { auth: "%%".into(), ..Auth::default() };
        assert_eq!(broken.credentials("q.io", "q.io"), None);
        let secret = Auth { password: "hunter2".into(), ..Auth::default() };
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn challenges() {
        let header =
            r#"Basic realm="a, b", Bearer realm="https://x/t",service=s,scope="r:a:pull,push""#;
        let parsed = Challenge::parse(header);
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].get("realm"), Some("a, b"));
        assert_eq!((parsed[1].scheme.as_str(), parsed[1].get("service")), ("bearer", Some("s")));
        assert_eq!(parsed[1].get("scope"), Some("r:a:pull,push"));
        assert_eq!(Challenge::parse("Basic")[0].scheme, "basic");
        assert!(Challenge::parse("=").is_empty());
        assert_eq!(Challenge::parse("Bearer realm=\"x").len(), 1);
    }
}
