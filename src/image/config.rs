//! The image configuration, read leniently: builders write `null` for what is empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Digest,
    platform::{Platform, null_is_default},
};

/// What an image says about how its containers run. It is data of a stranger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group`, or nothing.
    pub user: String,
    /// `NAME=value` texts.
    pub env: Vec<String>,
    /// The program that always runs.
    pub entrypoint: Vec<String>,
    /// The program, or its arguments where there is an entrypoint.
    pub cmd: Vec<String>,
    /// Where the program starts.
    pub working_dir: String,
    /// Paths of volumes.
    pub volumes: Vec<String>,
    /// Labels; never read as settings.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end, such as `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// Ports such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// In GOARCH words.
    pub architecture: String,
    /// The operating system.
    pub os: String,
    /// The architecture's variant.
    pub variant: String,
    /// When it was built, in RFC 3339.
    pub created: Option<String>,
}

/// The configuration document as registries have it.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    #[serde(flatten)]
    pub(super) platform: Platform,
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    config: Process,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) rootfs: Rootfs,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Rootfs {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) diff_ids: Vec<Digest>,
}

type Set = BTreeMap<String, serde::de::IgnoredAny>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    #[serde(deserialize_with = "null_is_default")]
    user: String,
    #[serde(deserialize_with = "null_is_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    working_dir: String,
    #[serde(deserialize_with = "null_is_default")]
    volumes: Set,
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, Option<String>>,
    stop_signal: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    exposed_ports: Set,
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        // Of a key that comes twice the last counts, as in Go.
        serde_json::from_slice(bytes).and_then(serde_json::from_value)
    }

    pub(super) fn into_config(self) -> ImageConfig {
        let process = self.config;
        let labels = process.labels.into_iter().map(|(k, v)| (k, v.unwrap_or_default()));
        ImageConfig {
            user: process.user,
            env: process.env,
            entrypoint: process.entrypoint,
            cmd: process.cmd,
            working_dir: process.working_dir,
            volumes: process.volumes.into_keys().collect(),
            labels: labels.collect(),
            stop_signal: process.stop_signal.filter(|signal| !signal.is_empty()),
            exposed_ports: process.exposed_ports.into_keys().collect(),
            architecture: self.platform.architecture,
            os: self.platform.os,
            variant: self.platform.variant,
            created: self.created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_empty() {
        let text = br#"{"architecture":"amd64","os":"linux","variant":null,"config":{"User":null,
            "Env":null,"Cmd":["sh"],"Entrypoint":null,"Volumes":{"/data":{}},"Labels":{"a":null},
            "ExposedPorts":null,"StopSignal":"","OnBuild":null},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let document = Document::parse(text).unwrap();
        assert!(document.rootfs.diff_ids.is_empty());
        let config = document.into_config();
        assert_eq!(config.cmd, ["sh"]);
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!(config.labels["a"], "");
        assert_eq!(config.stop_signal, None);
        assert_eq!((config.os.as_str(), config.architecture.as_str()), ("linux", "amd64"));
        let bare = Document::parse(br#"{"config":null}"#).unwrap().into_config();
        assert_eq!(bare, ImageConfig::default());
    }
}
