//! What an administrator says about registries and images: which are refused, which need no
//! TLS, which stay, and where the node's credentials are. It may change while the store is
//! open.

use std::{
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Error, reference::Reference};

/// Rules about registries and images.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// No image is pulled from these.
    pub blocked: Vec<RegistryPattern>,
    /// These are also spoken to with unknown certificates, or in the clear.
    pub insecure: Vec<RegistryPattern>,
    /// The kubelet's garbage collection passes these images over.
    pub pinned: Vec<NamePattern>,
    /// Docker's `config.json` files, for pulls that bring no credentials of their own. They
    /// are read for each pull.
    pub auth_files: Vec<PathBuf>,
}

impl Rules {
    /// Refuses an image of a blocked registry.
    pub(super) fn check(&self, reference: &Reference) -> Result<(), Error> {
        match self.blocked.iter().find(|pattern| pattern.matches(reference)) {
            None => Ok(()),
            Some(pattern) => Err(Error::Blocked {
                reference: reference.to_string(),
                pattern: pattern.text.clone(),
            }),
        }
    }

    pub(super) fn is_insecure(&self, reference: &Reference) -> bool {
        self.insecure.iter().any(|pattern| pattern.matches(reference))
    }

    pub(super) fn is_pinned<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> bool {
        names.any(|name| self.pinned.iter().any(|pattern| pattern.matches(name)))
    }
}

/// The rules as they are now; who has them goes on by those that he has.
pub(super) struct CurrentRules(
    // A short critical section: a copy of the pointer.
    Mutex<Arc<Rules>>,
);

impl CurrentRules {
    pub(super) fn new(rules: Rules) -> Self {
        Self(Mutex::new(Arc::new(rules)))
    }

    pub(super) fn get(&self) -> Arc<Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, rules: Rules) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pattern of registries: {reason}")]
pub struct PatternError {
    text: String,
    reason: &'static str,
}

/// A registry, `*.DOMAIN` for all hosts of a domain, either with the beginning of a
/// repository behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryPattern {
    text: String,
    host: String,
    path: String,
}

impl RegistryPattern {
    fn matches(&self, reference: &Reference) -> bool {
        let host = match self.host.strip_prefix('*') {
            Some(domain) => reference.registry.to_ascii_lowercase().ends_with(domain),
            None => reference.registry.eq_ignore_ascii_case(&self.host),
        };
        host && is_path_prefix(&self.path, &reference.repository)
    }
}

impl FromStr for RegistryPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = |reason| Err(PatternError { text: text.to_owned(), reason });
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let name = host.strip_prefix("*.").unwrap_or(host);
        if text.contains("://") {
            return wrong("leave out the scheme");
        }
        if name.is_empty() || name.contains('*') {
            return wrong("a '*' stands first, as in *.example.com");
        }
        if path.contains(['*', '@', ':']) {
            return wrong("behind the host comes the beginning of a repository");
        }
        Ok(Self {
            text: text.to_owned(),
            host: host.to_ascii_lowercase(),
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

/// Whether `prefix` is the whole of `path`, or ends where one of its components does.
pub(super) fn is_path_prefix(prefix: &str, path: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// The name of an image with its defaults left out, or with `*` for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// A name counts in its full form; a pattern is matched against full names.
    pub fn new(text: &str) -> Self {
        let full = Reference::parse(text).map(|reference| reference.to_string());
        Self(full.unwrap_or_else(|_| text.to_owned()))
    }

    fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut last = None;
        for part in parts {
            // The part before was followed by others, so the first place it fits will do.
            if let Some(between) = last.replace(part) {
                let Some(at) = rest.find(between) else { return false };
                rest = &rest[at + between.len()..];
            }
        }
        last.map_or(rest.is_empty(), |last| rest.ends_with(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_match_by_host_domain_and_path() {
        for (pattern, image, expected) in [
            ("quay.io", "quay.io/a/b:1", true),
            ("quay.io", "quay.io:443/a/b:1", false),
            ("quay.io", "sub.quay.io/a", false),
            ("QUAY.io/a", "quay.io/a/b", true),
            ("quay.io/a/", "quay.io/a", true),
            ("quay.io/a", "quay.io/ab", false),
            ("*.example.com", "r.example.com/a", true),
            ("*.example.com", "a.b.example.com/a", true),
            ("*.example.com", "example.com/a", false),
            ("*.example.com", "evilexample.com/a", false),
            ("docker.io", "busybox", true),
            ("docker.io/library", "user/app", false),
        ] {
            let parsed: RegistryPattern = pattern.parse().unwrap();
            let image = Reference::parse(image).unwrap();
            assert_eq!(parsed.matches(&image), expected, "{pattern} {image}");
        }
        for wrong in ["", "*", "a*.io", "https://a.io", "a.io/x:1", "*.", "/x"] {
            assert!(wrong.parse::<RegistryPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_match_with_stars() {
        for (pattern, name, expected) in [
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", true),
            ("busybox", "docker.io/library/busybox:latest", true),
            ("registry.k8s.io/pause*", "registry.k8s.io/pause:3.10", true),
            ("registry.k8s.io/pause*", "registry.k8s.io/a/pause:3.10", false),
            ("*/pause:*", "registry.k8s.io/pause:3.10", true),
            ("*pause*3*10", "registry.k8s.io/pause:3.10", true),
            ("*pause*10*3", "registry.k8s.io/pause:3.10", false),
            ("*", "anything", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(NamePattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }
}
