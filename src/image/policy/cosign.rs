//! Signatures as cosign attaches them to images: a payload that names the image, and beside
//! it the signature, and for signers without a key their certificate and the log's promise
//! (cosign's `SIGNATURE_SPEC`).

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    Candidate,
    file::SigstoreSigned,
    fulcio::Authority,
    identity::SignedIdentity,
    key::Key,
    rekor::{self, Entry},
};
use crate::image::signature::Signature;

/// What a payload must say that it is.
const TYPES: [&str; 2] = ["cosign container image signature", "atomic container signature"];

#[derive(Debug, Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Debug, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Debug, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Who may sign, with all keys read.
#[derive(Debug)]
pub(super) struct Trust<'a> {
    signers: Signers,
    /// Keys of logs; without any, no log is asked about.
    logs: Vec<Key>,
    identity: &'a SignedIdentity,
}

#[derive(Debug)]
enum Signers {
    Keys(Vec<Key>),
    Authority(Authority),
}

impl<'a> Trust<'a> {
    pub(super) fn load(wanted: &'a SigstoreSigned) -> Result<Self, String> {
        let signers = match &wanted.fulcio {
            Some(fulcio) => Signers::Authority(Authority::load(fulcio)?),
            None => Signers::Keys(keys(
                wanted.key_path.iter().chain(&wanted.key_paths),
                wanted.key_data.iter().chain(&wanted.key_datas),
            )?),
        };
        let logs = keys(
            wanted.rekor_public_key_path.iter().chain(&wanted.rekor_public_key_paths),
            wanted.rekor_public_key_data.iter().chain(&wanted.rekor_public_key_datas),
        )?;
        Ok(Self { signers, logs, identity: &wanted.signed_identity })
    }

    /// # Errors
    /// Why none of the signatures counts.
    pub(super) fn accept_any(
        &self,
        candidate: &Candidate<'_>,
        signatures: &[Signature],
    ) -> Result<(), String> {
        let mut reasons = Vec::new();
        for signature in signatures {
            match self.accept(candidate, signature) {
                Ok(()) => return Ok(()),
                Err(reason) if reasons.contains(&reason) => {}
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() {
            return Err("it has no signature".to_owned());
        }
        Err(format!("none of its signatures counts: {}", reasons.join("; ")))
    }

    fn accept(&self, candidate: &Candidate<'_>, signature: &Signature) -> Result<(), String> {
        let bytes = STANDARD.decode(&signature.signature);
        let bytes = bytes.map_err(|_| "one is not base64".to_owned())?;
        let message = signature.payload.as_bytes();
        match &self.signers {
            Signers::Keys(keys) => {
                let signer = keys.iter().find(|key| key.has_signed(message, &bytes));
                let signer = signer.ok_or("one was not made with a key of the policy")?;
                if !self.logs.is_empty() {
                    self.entry(signature)?.check(message, &bytes, &signer.der)?;
                }
            }
            Signers::Authority(authority) => {
                let entry = self.entry(signature)?;
                let key = authority.key_of(signature, entry.integrated_at)?;
                if !key.has_signed(message, &bytes) {
                    return Err("one was not made with the key of its certificate".to_owned());
                }
                entry.check(message, &bytes, &key.der)?;
            }
        }
        self.check_payload(candidate, message)
    }

    fn entry(&self, signature: &Signature) -> Result<Entry, String> {
        let bundle = signature.bundle.as_deref().ok_or("one is not in a transparency log")?;
        rekor::verify(bundle, &self.logs)
    }

    /// Only now that it is known whose words these are, they are read.
    fn check_payload(&self, candidate: &Candidate<'_>, message: &[u8]) -> Result<(), String> {
        let payload: Payload = serde_json::from_slice(message)
            .map_err(|error| format!("the payload of one does not parse: {error}"))?;
        let Critical { identity, image, kind } = payload.critical;
        if !TYPES.contains(&kind.as_str()) {
            return Err(format!("one is a {kind:?}"));
        }
        if !candidate.digests.iter().any(|digest| digest.to_string() == image.digest) {
            return Err(format!("one is for the content {}", image.digest));
        }
        self.identity.check(candidate.reference, &identity.reference)
    }
}

fn keys<'a>(
    paths: impl Iterator<Item = &'a PathBuf>,
    datas: impl Iterator<Item = &'a String>,
) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for path in paths {
        let failed = |reason: String| format!("key {}: {reason}", path.display());
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        keys.extend(Key::all_of_pem(&pem).map_err(failed)?);
    }
    for data in datas {
        let pem = STANDARD.decode(data).map_err(|error| format!("key data: {error}"))?;
        keys.extend(Key::all_of_pem(&pem).map_err(|reason| format!("key data: {reason}"))?);
    }
    Ok(keys)
}
