//! Whether a signature is about the image that the user named.

use serde::Deserialize;

use crate::image::{Reference, Version};

/// `signedIdentity` of containers-policy.json(5): how the name within a signature must relate
/// to the name that is pulled.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[serde(deny_unknown_fields)]
pub(super) enum SignedIdentity {
    /// The same repository and tag.
    MatchExact,
    /// The same repository and tag; for an image by digest, the repository alone.
    #[default]
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This very name.
    ExactReference { docker_reference: String },
    /// Any image of this repository.
    ExactRepository { docker_repository: String },
    /// As if the image came from another place.
    RemapIdentity { prefix: String, signed_prefix: String },
}

impl SignedIdentity {
    /// # Errors
    /// What does not fit.
    pub(super) fn check(&self, image: &Reference, signed: &str) -> Result<(), String> {
        let fits = match self {
            Self::MatchExact => is_exactly(signed, image),
            Self::MatchRepoDigestOrExact => by_digest_or_exactly(signed, image),
            Self::MatchRepository => repository_of(signed) == Some(image.name()),
            Self::ExactReference { docker_reference } => {
                let wanted = Reference::parse(docker_reference).ok();
                wanted.is_some_and(|wanted| is_exactly(signed, &wanted))
            }
            Self::ExactRepository { docker_repository } => {
                let wanted = repository_of(docker_repository);
                wanted.is_some() && wanted == repository_of(signed)
            }
            Self::RemapIdentity { prefix, signed_prefix } => {
                let mapped = remap(image, prefix, signed_prefix);
                mapped.is_some_and(|image| by_digest_or_exactly(signed, &image))
            }
        };
        if fits { Ok(()) } else { Err(format!("it is for {signed:?}")) }
    }
}

fn by_digest_or_exactly(signed: &str, image: &Reference) -> bool {
    match image.version {
        Version::Digest(_) => repository_of(signed) == Some(image.name()),
        Version::Tag(_) => is_exactly(signed, image),
    }
}

/// A name without a tag and without a digest is none of an image, but of a repository.
fn is_exactly(signed: &str, image: &Reference) -> bool {
    let last = signed.rsplit('/').next().unwrap_or_default();
    let is_whole = last.contains(':') || last.contains('@');
    is_whole && Reference::parse(signed).is_ok_and(|signed| signed == *image)
}

fn repository_of(name: &str) -> Option<String> {
    Reference::parse(name).ok().map(|reference| reference.name())
}

fn remap(image: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let text = image.to_string();
    match text.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => {
            Reference::parse(&format!("{signed_prefix}{rest}")).ok()
        }
        _ => Some(image.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::SignedIdentity;
    use crate::image::{Digest, Reference};

    #[test]
    fn names_relate_as_the_policy_wants() {
        let digest = Digest::of(b"x");
        let by_digest = format!("r.io/a/b@{digest}");
        let json = |text: &str| serde_json::from_str::<SignedIdentity>(text).unwrap();
        let remap = r#"{"type":"remapIdentity","prefix":"r.io/a","signedPrefix":"vendor.com/x"}"#;
        let exact = r#"{"type":"exactReference","dockerReference":"q.io/c:2"}"#;
        let repository = r#"{"type":"exactRepository","dockerRepository":"q.io/c"}"#;
        let default = r#"{"type":"matchRepoDigestOrExact"}"#;
        for (identity, image, signed, fits) in [
            (r#"{"type":"matchExact"}"#, "r.io/a/b:1", "r.io/a/b:1", true),
            (r#"{"type":"matchExact"}"#, "r.io/a/b:1", "r.io/a/b:2", false),
            (r#"{"type":"matchExact"}"#, "r.io/a/b:latest", "r.io/a/b", false),
            (r#"{"type":"matchExact"}"#, &by_digest, "r.io/a/b:1", false),
            (default, "r.io/a/b:1", "r.io/a/b:1", true),
            (default, "r.io/a/b:1", "r.io/a/b", false),
            (default, &by_digest, "r.io/a/b:1", true),
            (default, &by_digest, "r.io/a/c:1", false),
            (r#"{"type":"matchRepository"}"#, "r.io/a/b:1", "r.io/a/b", true),
            (r#"{"type":"matchRepository"}"#, "r.io/a/b:1", "r.io/a", false),
            (exact, "r.io/a/b:1", "q.io/c:2", true),
            (exact, "r.io/a/b:1", "r.io/a/b:1", false),
            (repository, "r.io/a/b:1", "q.io/c:7", true),
            (repository, "r.io/a/b:1", "q.io/d:7", false),
            (remap, "r.io/a/b:1", "vendor.com/x/b:1", true),
            (remap, "r.io/a/b:1", "r.io/a/b:1", false),
            (remap, "r.io/ab/b:1", "r.io/ab/b:1", true),
        ] {
            let result = json(identity).check(&Reference::parse(image).unwrap(), signed);
            assert_eq!(result.is_ok(), fits, "{identity} {image} {signed}");
        }
    }
}
