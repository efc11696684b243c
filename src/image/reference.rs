//! Image references: `registry/repository:tag@digest`, with the defaults that people know.

use std::fmt;

use super::{Digest, Error};

const DEFAULT_REGISTRY: &str = "docker.io";
const REPOSITORY_LENGTH: usize = 255;
const TAG_LENGTH: usize = 128;

/// A normalized image reference. With a digest there is no tag: the digest alone decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The registry's host and port as people write it, such as `docker.io`.
    pub registry: String,
    /// The repository without its registry.
    pub repository: String,
    /// Which of the repository's images.
    pub version: Version,
}

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Version {
    /// A name that can move.
    Tag(String),
    /// The content itself.
    Digest(Digest),
}

impl Reference {
    /// Parses a reference; `busybox` means `docker.io/library/busybox:latest`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::try_parse(text)
            .map_err(|reason| Error::Reference { reference: text.to_owned(), reason })
    }

    fn try_parse(text: &str) -> Result<Self, &'static str> {
        if text.parse::<Digest>().is_ok() {
            return Err("it is an image id, not a name");
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse::<Digest>();
                (
                    name,
                    Some(digest.map_err(
                        |_| "its digest is not sha256: and 64, or sha512: and 128, hex digits",
                    )?),
                )
            }
            None => (text, None),
        };
        let (registry, rest) = split_registry(name);
        check_registry(registry)?;
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        check_repository(repository)?;
        tag.map_or(Ok(()), check_tag)?;
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if repository.len() > REPOSITORY_LENGTH {
            return Err("its repository is longer than 255 characters");
        }
        let version = match (digest, tag) {
            (Some(digest), _) => Version::Digest(digest),
            (None, Some(tag)) => Version::Tag(tag.to_owned()),
            (None, None) => Version::Tag("latest".to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, version })
    }

    /// Registry and repository, without tag or digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at a digest.
    pub(super) fn at(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// The part before the first slash is a registry when it cannot be a repository's.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    const REASON: &str = "its registry is not a host name or address with an optional port";
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(REASON)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| REASON)?;
            ("v6", port)
        }
        None => registry.split_at(registry.find(':').unwrap_or(registry.len())),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    if host.split('.').all(label) && port_is_good { Ok(()) } else { Err(REASON) }
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.is_empty() {
        return Err("it names no repository");
    }
    if repository.len() == 64 && Digest::from_hex(repository).is_ok() {
        return Err("64 hex digits are an image id, not a repository");
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else if repository.contains(|c: char| c.is_ascii_uppercase()) {
        Err("a repository is written in lower case")
    } else {
        Err("a repository is made of a-z and 0-9, with single '.', '_', '__' or dashes between")
    }
}

/// Runs of letters and digits, separated by `.`, `_`, `__` or any number of dashes.
fn is_component(component: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (component.bytes().next(), component.bytes().last()) else {
        return false;
    };
    good(first)
        && good(last)
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first_is_good = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if first_is_good && tag.len() <= TAG_LENGTH && tag.bytes().all(good) {
        Ok(())
    } else {
        Err("a tag is made of letters, digits, '_', '.' and '-', at most 128 of them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_take_their_defaults() {
        for (text, expected) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("user/app", "docker.io/user/app:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("gcr.io/a__b/c--d/e.f:T_1.-", "gcr.io/a__b/c--d/e.f:T_1.-"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("127.0.0.1:5000/a:1", "127.0.0.1:5000/a:1"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), expected, "{text}");
        }
        let digest = format!("quay.io/a/b:tag@sha256:{HEX}");
        assert_eq!(
            Reference::parse(&digest).unwrap().to_string(),
            format!("quay.io/a/b@sha256:{HEX}")
        );
    }

    #[test]
    fn wrong_references_are_refused() {
        let long = format!("a/{}", "b".repeat(300));
        let tag = format!("a:{}", "b".repeat(129));
        // Docker Hub's own images get eight characters more.
        let library = "b".repeat(250);
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A/b:c/d",
            "Busybox",
            "a:",
            "a:-b",
            "a@sha256:12",
            "a@sha512:12",
            "a@",
            "a b",
            "a\n",
            "gcr.io/../etc",
            "gcr.io/a..b",
            "gcr.io/.a",
            "gcr.io/a___b",
            "host:port/a",
            "host:99999/a",
            "ho_st.io/a",
            "-x.io/a",
            "[::1/a",
            "user:pass@host.io/a",
            "https://host.io/a",
            HEX,
            &format!("sha256:{HEX}"),
            &long,
            &library,
            &tag,
        ] {
            let error = Reference::parse(text).expect_err(text);
            assert_eq!(error.kind(), crate::kind::Kind::InvalidArgument, "{text}");
        }
    }
}
