//! What is in config maps and secrets of the same file.

use std::collections::BTreeMap;

use super::Manifest;
use crate::play::error::Problem;

/// Keys and their bytes.
pub(in crate::play) type Content = BTreeMap<String, Vec<u8>>;

impl Manifest {
    /// What a config map has; nothing where it is optional and not there.
    pub(in crate::play) fn config_map(
        &self,
        path: &str,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Content, Problem> {
        let Some(map) = self.config_maps.get(name) else {
            return absent("ConfigMap", path, name, optional);
        };
        let texts = map.data.iter().flatten();
        let texts = texts.map(|(key, text)| (key.clone(), text.clone().into_bytes()));
        let bytes = map.binary_data.iter().flatten();
        let bytes = bytes.map(|(key, bytes)| (key.clone(), bytes.0.clone()));
        Ok(texts.chain(bytes).collect())
    }

    /// What a secret has; nothing where it is optional and not there.
    pub(in crate::play) fn secret(
        &self,
        path: &str,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Content, Problem> {
        let Some(secret) = self.secrets.get(name) else {
            return absent("Secret", path, name, optional);
        };
        let bytes = secret.data.iter().flatten();
        let bytes = bytes.map(|(key, bytes)| (key.clone(), bytes.0.clone()));
        // Text wins over bytes of the same key.
        let texts = secret.string_data.iter().flatten();
        let texts = texts.map(|(key, text)| (key.clone(), text.clone().into_bytes()));
        Ok(bytes.chain(texts).collect())
    }
}

fn absent(kind: &str, path: &str, name: &str, optional: Option<bool>) -> Result<Content, Problem> {
    match optional {
        Some(true) => Ok(Content::new()),
        _ => {
            let reason =
                format!("names {kind} {name:?}, which is not in this file; add it as a document");
            Err(Problem::new(path, reason))
        }
    }
}
