//! Certificates of signers without a key of their own: an authority vouches that somebody
//! has shown an identity, for the minutes in which the image was signed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::{
    Certificate,
    der::{
        Decode, Encode,
        asn1::{ObjectIdentifier, Utf8StringRef},
    },
    ext::pkix::{ExtendedKeyUsage, SubjectAltName, name::GeneralName},
};

use super::{file::Fulcio, key::Key};
use crate::image::signature::Signature;

/// Code signing (RFC 5280, section 4.2.1.12), as DER without tag and length.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
const PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// The issuer of the identity as plain text, and as a UTF-8 string (Fulcio's `oid-info`).
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER_STRING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");

/// Whose certificates count, and for whom.
#[derive(Debug)]
pub(super) struct Authority {
    anchors: Vec<TrustAnchor<'static>>,
    issuer: String,
    email: String,
}

impl Authority {
    pub(super) fn load(fulcio: &Fulcio) -> Result<Self, String> {
        let failed = |reason: String| format!("fulcio's certificate: {reason}");
        let pem = match (&fulcio.ca_path, &fulcio.ca_data) {
            (Some(path), _) => {
                std::fs::read(path).map_err(|e| failed(format!("{}: {e}", path.display())))?
            }
            (None, data) => STANDARD
                .decode(data.as_deref().unwrap_or_default())
                .map_err(|error| failed(error.to_string()))?,
        };
        let anchors = certificates(&pem)
            .and_then(|all| {
                let anchor = |der: &CertificateDer<'_>| {
                    anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned())
                };
                all.iter().map(anchor).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())
            })
            .map_err(failed)?;
        if anchors.is_empty() {
            return Err(failed("there is none in PEM".to_owned()));
        }
        let (issuer, email) = (fulcio.oidc_issuer.clone(), fulcio.subject_email.clone());
        Ok(Self { anchors, issuer, email })
    }

    /// The key of the signature's certificate, which was valid at `at`, seconds since the
    /// epoch.
    ///
    /// # Errors
    /// A certificate of another authority, time, purpose or identity.
    pub(super) fn key_of(&self, signature: &Signature, at: i64) -> Result<Key, String> {
        let pem = signature.certificate.as_deref().ok_or("one has no certificate")?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| "the certificate of one does not parse")?;
        self.check_chain(&der, signature.chain.as_deref().unwrap_or_default(), at)?;
        let certificate = Certificate::from_der(&der)
            .map_err(|error| format!("the certificate of one does not parse: {error}"))?;
        self.check_identity(&certificate)?;
        let key = certificate.tbs_certificate().subject_public_key_info().to_der();
        Key::of_der(&key.map_err(|error| error.to_string())?)
    }

    fn check_chain(&self, der: &CertificateDer<'_>, chain: &str, at: i64) -> Result<(), String> {
        let failed =
            |error: webpki::Error| format!("the certificate of one does not count: {error}");
        let seconds = u64::try_from(at).map_err(|_| "the log entry of one has no time")?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let between = certificates(chain.as_bytes())?;
        EndEntityCert::try_from(der)
            .map_err(failed)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                &between,
                time,
                // An authority without the extension may issue for every purpose.
                KeyUsage::required_if_present(CODE_SIGNING),
                None,
                None,
            )
            .map(drop)
            .map_err(failed)
    }

    fn check_identity(&self, certificate: &Certificate) -> Result<(), String> {
        let purposes = certificate.tbs_certificate().get_extension::<ExtendedKeyUsage>();
        let purposes = purposes.ok().flatten().map(|(_, purposes)| purposes.0).unwrap_or_default();
        if !purposes.contains(&PURPOSE) {
            return Err("the certificate of one is not for signing code".to_owned());
        }
        let issuer = issuer(certificate).ok_or("the certificate of one names no issuer")?;
        if issuer != self.issuer {
            return Err(format!("the identity of one was shown to {issuer:?}"));
        }
        let names = certificate.tbs_certificate().get_extension::<SubjectAltName>();
        let names = names.ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
        let emails: Vec<&str> = names
            .iter()
            .filter_map(|name| match name {
                GeneralName::Rfc822Name(email) => Some(email.as_str()),
                _ => None,
            })
            .collect();
        if emails.contains(&self.email.as_str()) {
            return Ok(());
        }
        Err(format!("one was made by {emails:?}"))
    }
}

/// The newer extension where there is one; where both are, they must agree, or neither counts.
fn issuer(certificate: &Certificate) -> Option<String> {
    let extensions =
        certificate.tbs_certificate().extensions().map(Vec::as_slice).unwrap_or_default();
    let value = |oid| extensions.iter().find(|e| e.extn_id == oid).map(|e| e.extn_value.as_bytes());
    let plain = value(ISSUER).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let newer = value(ISSUER_STRING).map(|bytes| Utf8StringRef::from_der(bytes).ok());
    match (newer, plain) {
        (Some(newer), Some(plain)) => {
            newer.filter(|newer| newer.as_str() == plain).map(|newer| newer.as_str().to_owned())
        }
        (Some(newer), None) => newer.map(|newer| newer.as_str().to_owned()),
        (None, plain) => plain.map(str::to_owned),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("a certificate does not parse: {error}"))
}
