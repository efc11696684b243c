//! The transparency log's promise that it has a signature since some moment: what cosign
//! keeps as `dev.sigstore.cosign/bundle`.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use super::key::Key;
use crate::image::Digest;

#[derive(Deserialize)]
struct Bundle {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: Payload,
}

/// What the log signs: canonical JSON, which for these fields is their alphabetical order.
#[derive(Serialize, Deserialize)]
struct Payload {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    #[serde(rename = "logIndex")]
    log_index: i64,
}

#[derive(Deserialize)]
struct Body {
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: Signed,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
struct Signed {
    content: String,
    #[serde(rename = "publicKey")]
    public_key: PublicKey,
}

#[derive(Deserialize)]
struct PublicKey {
    content: String,
}

/// An entry that one of the logs has promised.
pub(super) struct Entry {
    /// Seconds since the epoch.
    pub(super) integrated_at: i64,
    spec: Spec,
}

/// # Errors
/// A promise that no known log has made.
pub(super) fn verify(bundle: &str, logs: &[Key]) -> Result<Entry, String> {
    let broken = || "the log entry of one does not parse".to_owned();
    let bundle: Bundle = serde_json::from_str(bundle).map_err(|_| broken())?;
    let signed = serde_json::to_vec(&bundle.payload).map_err(|_| broken())?;
    let promise = STANDARD.decode(&bundle.promise).map_err(|_| broken())?;
    if !logs.iter().any(|log| log.has_signed(&signed, &promise)) {
        return Err("one is not in a transparency log of the policy".to_owned());
    }
    let body = STANDARD.decode(&bundle.payload.body).map_err(|_| broken())?;
    let body: Body = serde_json::from_slice(&body).map_err(|_| broken())?;
    if body.kind != "hashedrekord" {
        return Err(format!("the log entry of one is a {:?}", body.kind));
    }
    Ok(Entry { integrated_at: bundle.payload.integrated_time, spec: body.spec })
}

impl Entry {
    /// # Errors
    /// An entry about something else than this signature of this message with this key.
    pub(super) fn check(&self, message: &[u8], signature: &[u8], key: &[u8]) -> Result<(), String> {
        let Hash { algorithm, value } = &self.spec.data.hash;
        let same_message = algorithm == "sha256" && *value == Digest::of(message).hex();
        let content = STANDARD.decode(&self.spec.signature.content);
        let same_signature = content.is_ok_and(|content| content == signature);
        let pem = STANDARD.decode(&self.spec.signature.public_key.content).unwrap_or_default();
        let same_key = key_of(&pem).is_some_and(|logged| logged == key);
        if same_message && same_signature && same_key {
            return Ok(());
        }
        Err("the log entry of one is about another signature".to_owned())
    }
}

/// A public key, or that of a certificate.
fn key_of(pem: &[u8]) -> Option<Vec<u8>> {
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(pem) {
        return Some(key.as_ref().to_vec());
    }
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let certificate = Certificate::from_der(&certificate).ok()?;
    certificate.tbs_certificate().subject_public_key_info().to_der().ok()
}
