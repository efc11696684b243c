//! The policy file's format: containers-policy.json(5), strictly.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{identity::SignedIdentity, scope};
use crate::image::Reference;

/// The transport that pulls from registries are under.
const DOCKER: &str = "docker";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// What an image must meet. All of a list's requirements count.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(super) enum Requirement {
    InsecureAcceptAnything,
    Reject,
    SigstoreSigned(Box<SigstoreSigned>),
}

/// Signed with a key, or with a certificate for somebody's identity.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SigstoreSigned {
    pub(super) key_path: Option<PathBuf>,
    #[serde(default)]
    pub(super) key_paths: Vec<PathBuf>,
    /// Base64 of a PEM file.
    pub(super) key_data: Option<String>,
    #[serde(default)]
    pub(super) key_datas: Vec<String>,
    pub(super) fulcio: Option<Fulcio>,
    pub(super) rekor_public_key_path: Option<PathBuf>,
    #[serde(default)]
    pub(super) rekor_public_key_paths: Vec<PathBuf>,
    pub(super) rekor_public_key_data: Option<String>,
    #[serde(default)]
    pub(super) rekor_public_key_datas: Vec<String>,
    #[serde(default)]
    pub(super) signed_identity: SignedIdentity,
}

/// Whose certificates count.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Fulcio {
    pub(super) ca_path: Option<PathBuf>,
    /// Base64 of a PEM file.
    pub(super) ca_data: Option<String>,
    pub(super) oidc_issuer: String,
    pub(super) subject_email: String,
}

impl File {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|error| {
            let text = error.to_string();
            if text.contains("unknown variant `signedBy`") {
                return format!("{text}: GPG signatures are not supported, use sigstoreSigned");
            }
            text
        })?;
        let lists = file.transports.values().flat_map(BTreeMap::values).chain([&file.default]);
        for list in lists {
            if list.is_empty() {
                return Err("a list of requirements is empty; use reject or \
                            insecureAcceptAnything"
                    .to_owned());
            }
            list.iter().try_for_each(Requirement::check)?;
        }
        Ok(file)
    }

    /// The requirements of the narrowest scope that the image is in.
    pub(super) fn requirements(&self, reference: &Reference) -> &[Requirement] {
        let scopes = self.transports.get(DOCKER);
        let found = scopes.and_then(|scopes| {
            scope::scopes_of(reference).iter().find_map(|scope| scopes.get(scope.as_str()))
        });
        found.unwrap_or(&self.default)
    }
}

impl Requirement {
    fn check(&self) -> Result<(), String> {
        let Self::SigstoreSigned(signed) = self else { return Ok(()) };
        let has_key = signed.has_keys();
        if has_key == signed.fulcio.is_some() {
            return Err("sigstoreSigned needs either keys or fulcio".to_owned());
        }
        if let Some(fulcio) = &signed.fulcio {
            if fulcio.ca_path.is_some() == fulcio.ca_data.is_some() {
                return Err("fulcio needs either caPath or caData".to_owned());
            }
            if !signed.has_rekor() {
                return Err("fulcio needs rekorPublicKeyPath or rekorPublicKeyData: a \
                            certificate is valid for minutes, and only the log knows when the \
                            image was signed"
                    .to_owned());
            }
        }
        Ok(())
    }
}

impl SigstoreSigned {
    fn has_keys(&self) -> bool {
        self.key_path.is_some()
            || self.key_data.is_some()
            || !self.key_paths.is_empty()
            || !self.key_datas.is_empty()
    }

    pub(super) fn has_rekor(&self) -> bool {
        self.rekor_public_key_path.is_some()
            || self.rekor_public_key_data.is_some()
            || !self.rekor_public_key_paths.is_empty()
            || !self.rekor_public_key_datas.is_empty()
    }
}
