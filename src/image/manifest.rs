//! Manifests and indexes: which kind a document is, and what it says. A document that two
//! readers could take for different things is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{
    Digest,
    platform::{Platform, null_is_default},
};

/// The most that a manifest or index may have.
pub(super) const MANIFEST_LIMIT: u64 = 4 << 20;
/// The most that a configuration may have.
pub(super) const CONFIG_LIMIT: u64 = 8 << 20;
/// Overlay stacks at most 500 layers, and the container's own comes on top.
const LAYER_LIMIT: usize = 480;
const INDEX_LIMIT: usize = 4096;

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_SIGNED_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What a request for a manifest accepts.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest document.
#[derive(Debug)]
pub(super) enum Document {
    /// Several manifests to choose from.
    Index(Vec<Descriptor>),
    /// One image.
    Image(Box<Manifest>),
}

/// One image: its configuration and its layers, the lowest first.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
    pub(super) annotations: BTreeMap<String, String>,
    /// What it says that it is, where it is no image.
    pub(super) artifact_type: String,
}

/// A pointer to content.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default, deserialize_with = "null_is_default")]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    /// 0 where it is not known.
    #[serde(default, deserialize_with = "negative_is_unknown")]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
    #[serde(default, deserialize_with = "nulls_are_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default, deserialize_with = "null_is_default")]
    media_type: String,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "null_is_default")]
    artifact_type: String,
    #[serde(default, deserialize_with = "nulls_are_empty")]
    annotations: BTreeMap<String, String>,
}

fn nulls_are_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let map = Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?;
    Ok(map.into_iter().flatten().map(|(k, v)| (k, v.unwrap_or_default())).collect())
}

fn negative_is_unknown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = Option::<i64>::deserialize(deserializer)?.unwrap_or_default();
    Ok(u64::try_from(size).unwrap_or_default())
}

impl Document {
    /// Reads a document; `declared` is the media type that came with it, or nothing.
    pub(super) fn parse(bytes: &[u8], declared: &str) -> Result<Self, String> {
        // By way of a value, since of a key that comes twice the last counts, as in Go.
        let raw: Raw = serde_json::from_slice(bytes)
            .and_then(serde_json::from_value::<Raw>)
            .map_err(|error| format!("its manifest does not parse: {error}"))?;
        let declared = declared.split(';').next().unwrap_or_default().trim();
        if raw.fs_layers.is_some()
            || raw.schema_version == Some(1)
            || [DOCKER_SCHEMA1, DOCKER_SIGNED_SCHEMA1].contains(&raw.media_type.as_str())
        {
            return Err("it has a manifest of Docker's schema 1, which is no longer supported; \
                        push it again with a current tool"
                .to_owned());
        }
        let is_index = Self::shape(&raw, declared)?;
        if is_index {
            let manifests = raw.manifests.unwrap_or_default();
            if manifests.len() > INDEX_LIMIT {
                return Err(format!("its index lists more than {INDEX_LIMIT} manifests"));
            }
            return Ok(Document::Index(manifests));
        }
        let config = raw.config.ok_or("its manifest names no configuration")?;
        let layers = raw.layers.unwrap_or_default();
        if layers.len() > LAYER_LIMIT {
            return Err(format!("it has more than {LAYER_LIMIT} layers; squash some of them"));
        }
        let (annotations, artifact_type) = (raw.annotations, raw.artifact_type);
        let manifest = Manifest { config, layers, annotations, artifact_type };
        Ok(Document::Image(Box::new(manifest)))
    }

    /// Whether it is an index. The media type inside, the one outside and the fields that
    /// are there must all say the same (CVE-2021-41190).
    fn shape(raw: &Raw, declared: &str) -> Result<bool, String> {
        let by_fields = match (&raw.manifests, &raw.layers, &raw.config) {
            (Some(_), None, None) => true,
            (None, Some(_), _) | (None, None, Some(_)) => false,
            (Some(_), _, _) => {
                return Err("its manifest is ambiguous: it has both manifests and \
                                           layers; push it again with a current tool"
                    .to_owned());
            }
            (None, None, None) => {
                return Err("its manifest has neither manifests nor layers".to_owned());
            }
        };
        for (which, media_type) in
            [("mediaType", raw.media_type.as_str()), ("Content-Type", declared)]
        {
            let says = match media_type {
                OCI_INDEX | DOCKER_INDEX => true,
                OCI_MANIFEST | DOCKER_MANIFEST => false,
                // Plain servers send generic types, which say nothing.
                "" | "application/json" | "application/octet-stream" | "text/plain" => continue,
                other if which == "mediaType" => {
                    return Err(format!("its manifest is of the unknown type {other:?}"));
                }
                _ => continue,
            };
            if says != by_fields {
                return Err(format!(
                    "its manifest is ambiguous: its {which} is {media_type}, which \
                                    its fields contradict"
                ));
            }
        }
        Ok(by_fields)
    }
}

fn is_known(media_type: &str) -> bool {
    [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].contains(&media_type)
}

/// The entries of an index that may run on `platform`, the best first and those that do not say
/// whom they are for last.
pub(super) fn ranked(entries: Vec<Descriptor>, platform: &Platform) -> Vec<Descriptor> {
    let is_image = |d: &Descriptor| d.media_type.is_empty() || is_known(&d.media_type);
    let rank = |descriptor: &Descriptor| match &descriptor.platform {
        Some(offered) if offered.is_whole() => platform.rank(offered),
        // Its configuration will tell.
        _ => Some(0),
    };
    let images = entries.into_iter().filter(is_image);
    let mut ranked: Vec<(u8, Descriptor)> =
        images.filter_map(|descriptor| Some((rank(&descriptor)?, descriptor))).collect();
    ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    ranked.into_iter().map(|(_, descriptor)| descriptor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(extra: &str) -> String {
        format!(r#"{{"digest":"{}","size":1{extra}}}"#, Digest::of(b"x"))
    }

    #[test]
    fn shapes() {
        let d = descriptor("");
        let image = format!(r#""config":{d},"layers":[{d}]"#);
        let index = format!(r#""manifests":[{d}]"#);
        let typed =
            |media_type: &str, fields: &str| format!(r#"{{"mediaType":"{media_type}",{fields}}}"#);
        for (text, declared, good) in [
            (format!("{{{image}}}"), "", true),
            (format!("{{{image}}}"), "application/json; charset=utf-8", true),
            (format!("{{{image}}}"), OCI_INDEX, false),
            (typed(OCI_MANIFEST, &image), OCI_MANIFEST, true),
            // The same kind in other words: tools convert one and forget the other.
            (typed(OCI_MANIFEST, &image), DOCKER_MANIFEST, true),
            (typed(DOCKER_INDEX, &index), OCI_INDEX, true),
            (typed(OCI_MANIFEST, &image), DOCKER_INDEX, false),
            (typed(OCI_MANIFEST, &format!(r#""annotations":{{"a":null}},{image}"#)), "", true),
            (typed(OCI_MANIFEST, &format!(r#""layers":[],{image}"#)), "", true),
            (typed(OCI_MANIFEST, &image).replace(":1", ":-1"), "", true),
            (typed(OCI_INDEX, &image), "", false),
            (typed(DOCKER_INDEX, &index), DOCKER_INDEX, true),
            (typed(OCI_MANIFEST, &index), "", false),
            (typed("application/x-other", &image), "", false),
            (format!("{{{image},{index}}}"), "", false),
            (typed(OCI_INDEX, &format!("{image},{index}")), OCI_INDEX, false),
            (format!(r#"{{"schemaVersion":1,{image}}}"#), "", false),
            (r#"{"fsLayers":[]}"#.to_owned(), "", false),
            ("{}".to_owned(), "", false),
            ("[".to_owned(), "", false),
        ] {
            assert_eq!(
                Document::parse(text.as_bytes(), declared).is_ok(),
                good,
                "{text} {declared}"
            );
        }
    }
}
