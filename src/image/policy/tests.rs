//! Signatures of all kinds against policies of all kinds, with keys and authorities made here.

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use serde_json::{Value, json};

use super::*;

const NAME: &str = "r.example.com/team/app:1";
/// Within the life of every certificate here.
const SIGNED_AT: i64 = 1_700_000_000;

pub(in crate::image) struct Signer {
    keys: KeyPair,
}

impl Signer {
    pub(in crate::image) fn new() -> Self {
        Self { keys: KeyPair::generate().unwrap() }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let der = self.keys.serialize_der();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &random).unwrap();
        pair.sign(&random, message).unwrap().as_ref().to_vec()
    }

    fn pem(&self) -> String {
        self.keys.public_key_pem()
    }

    pub(in crate::image) fn data(&self) -> String {
        STANDARD.encode(self.pem())
    }

    pub(in crate::image) fn signature(&self, name: &str, digest: &Digest) -> Signature {
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": name },
                "image": { "docker-manifest-digest": digest.to_string() },
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string();
        let signature = STANDARD.encode(self.sign(payload.as_bytes()));
        Signature { payload, signature, certificate: None, chain: None, bundle: None }
    }
}

/// What the log says of a signature.
fn logged(log: &Signer, signature: &Signature, key: &str, at: i64) -> String {
    let body = json!({
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": { "hash": {
                "algorithm": "sha256",
                "value": Digest::of(signature.payload.as_bytes()).hex(),
            } },
            "signature": {
                "content": signature.signature,
                "publicKey": { "content": STANDARD.encode(key) },
            },
        },
    });
    let payload = json!({
        "body": STANDARD.encode(body.to_string()),
        "integratedTime": at,
        "logID": "c0ffee",
        "logIndex": 7,
    });
    let promise = STANDARD.encode(log.sign(payload.to_string().as_bytes()));
    json!({ "SignedEntryTimestamp": promise, "Payload": payload }).to_string()
}

fn policy(requirements: Value) -> Result<Policy, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let document = json!({ "default": [{ "type": "reject" }], "transports": { "docker": {
        "r.example.com/team": requirements,
        "open.example.com": [{ "type": "insecureAcceptAnything" }],
    } } });
    std::fs::write(file.path(), document.to_string()).unwrap();
    Policy::load(file.path())
}

fn decide(requirements: Value, name: &str, signatures: &[Signature]) -> Result<(), String> {
    let reference = Reference::parse(name).unwrap();
    let digests = [digest()];
    let candidate = Candidate { reference: &reference, digests: &digests };
    let policy = policy(requirements).unwrap();
    policy.decide(&candidate, signatures).map_err(|error| error.to_string())
}

fn digest() -> Digest {
    Digest::of(b"the manifest")
}

fn refuses(requirements: Value, name: &str, signatures: &[Signature], word: &str) {
    let error = decide(requirements, name, signatures).unwrap_err();
    assert!(error.starts_with("SignatureValidationFailed"), "{error}");
    assert!(error.contains(word), "{word:?} is not in {error}");
}

#[test]
fn scopes_decide_which_requirements_count() {
    let accept = || json!([{ "type": "insecureAcceptAnything" }]);
    decide(accept(), NAME, &[]).unwrap();
    decide(json!([{ "type": "reject" }]), "open.example.com/x", &[]).unwrap();
    refuses(accept(), "elsewhere.example.com/x", &[], "rejects");
    refuses(json!([{ "type": "insecureAcceptAnything" }, { "type": "reject" }]), NAME, &[], "");
}

#[test]
fn a_key_of_the_policy_must_have_signed_this_image() {
    let (signer, other) = (Signer::new(), Signer::new());
    let wants = |signer: &Signer| json!([{ "type": "sigstoreSigned", "keyData": signer.data() }]);
    let good = signer.signature(NAME, &digest());
    decide(wants(&signer), NAME, std::slice::from_ref(&good)).unwrap();
    // One that counts is enough.
    decide(wants(&signer), NAME, &[other.signature(NAME, &digest()), good.clone()]).unwrap();
    let both = json!([{ "type": "sigstoreSigned", "keyDatas": [other.data(), signer.data()] }]);
    decide(both, NAME, std::slice::from_ref(&good)).unwrap();

    refuses(wants(&signer), NAME, &[], "no signature");
    refuses(wants(&other), NAME, std::slice::from_ref(&good), "key of the policy");
    let of_another = signer.signature(NAME, &Digest::of(b"another manifest"));
    refuses(wants(&signer), NAME, &[of_another], "content");
    let of_another = signer.signature("r.example.com/team/other:1", &digest());
    refuses(wants(&signer), NAME, &[of_another], "team/other");
    let changed = Signature { payload: good.payload.replace("app:1", "app:2"), ..good.clone() };
    refuses(wants(&signer), "r.example.com/team/app:2", &[changed], "key of the policy");
    let garbage = Signature { signature: "no base64!".to_owned(), ..good };
    refuses(wants(&signer), NAME, &[garbage], "base64");
}

#[test]
fn a_log_of_the_policy_must_have_the_signature_where_it_asks_for_one() {
    let (signer, log, other) = (Signer::new(), Signer::new(), Signer::new());
    let wants = || {
        json!([{ "type": "sigstoreSigned", "keyData": signer.data(),
                 "rekorPublicKeyData": log.data() }])
    };
    let plain = signer.signature(NAME, &digest());
    let with = |bundle: String| Signature { bundle: Some(bundle), ..plain.clone() };
    decide(wants(), NAME, &[with(logged(&log, &plain, &signer.pem(), SIGNED_AT))]).unwrap();
    refuses(wants(), NAME, std::slice::from_ref(&plain), "transparency log");
    let by_other = with(logged(&other, &plain, &signer.pem(), SIGNED_AT));
    refuses(wants(), NAME, &[by_other], "transparency log");
    let another = signer.signature(NAME, &Digest::of(b"another"));
    let of_another = with(logged(&log, &another, &signer.pem(), SIGNED_AT));
    refuses(wants(), NAME, &[of_another], "another signature");
    let of_other_key = with(logged(&log, &plain, &other.pem(), SIGNED_AT));
    refuses(wants(), NAME, &[of_other_key], "another signature");
}

/// An authority, an intermediate one, and certificates from it.
struct Fulcio {
    root: rcgen::Certificate,
    between: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Fulcio {
    fn new() -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params
        };
        let root_keys = KeyPair::generate().unwrap();
        let root = authority("root").self_signed(&root_keys).unwrap();
        let root_issuer = Issuer::new(authority("root"), root_keys);
        let keys = KeyPair::generate().unwrap();
        let between = authority("between").signed_by(&keys, &root_issuer).unwrap();
        Self { root, between, issuer: Issuer::new(authority("between"), keys) }
    }

    fn certificate(&self, signer: &Signer, email: &str, identity_issuer: &str) -> String {
        let purpose = ExtendedKeyUsagePurpose::CodeSigning;
        self.certificate_for(signer, email, identity_issuer, purpose)
    }

    fn certificate_for(
        &self,
        signer: &Signer,
        email: &str,
        identity_issuer: &str,
        purpose: ExtendedKeyUsagePurpose,
    ) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::Rfc822Name(email.try_into().unwrap())];
        params.extended_key_usages = vec![purpose];
        params.not_before = rcgen::date_time_ymd(2023, 11, 14);
        params.not_after = rcgen::date_time_ymd(2023, 11, 15);
        params.custom_extensions = vec![CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 4, 1, 57264, 1, 1],
            identity_issuer.as_bytes().to_vec(),
        )];
        params.signed_by(&signer.keys, &self.issuer).unwrap().pem()
    }

    fn signature(&self, log: &Signer, email: &str, issuer: &str, at: i64) -> Signature {
        let signer = Signer::new();
        let plain = signer.signature(NAME, &digest());
        let certificate = self.certificate(&signer, email, issuer);
        let bundle = logged(log, &plain, &certificate, at);
        let (certificate, bundle) = (Some(certificate), Some(bundle));
        Signature { certificate, bundle, chain: Some(self.between.pem()), ..plain }
    }
}

#[test]
fn an_identity_that_the_authority_vouches_for_counts_when_it_was_valid() {
    let (fulcio, stranger, log) = (Fulcio::new(), Fulcio::new(), Signer::new());
    let (email, issuer) = ("dev@example.com", "https://id.example.com");
    let wants = || {
        json!([{
            "type": "sigstoreSigned",
            "fulcio": {
                "caData": STANDARD.encode(fulcio.root.pem()),
                "oidcIssuer": issuer, "subjectEmail": email,
            },
            "rekorPublicKeyData": log.data(),
        }])
    };
    decide(wants(), NAME, &[fulcio.signature(&log, email, issuer, SIGNED_AT)]).unwrap();

    let day = 24 * 60 * 60;
    for (signature, word) in [
        (fulcio.signature(&log, "x@example.com", issuer, SIGNED_AT), "x@example.com"),
        (fulcio.signature(&log, email, "https://evil", SIGNED_AT), "https://evil"),
        (fulcio.signature(&log, email, issuer, SIGNED_AT + 2 * day), "does not count"),
        (fulcio.signature(&log, email, issuer, SIGNED_AT - 2 * day), "does not count"),
        (stranger.signature(&log, email, issuer, SIGNED_AT), "does not count"),
        (fulcio.signature(&Signer::new(), email, issuer, SIGNED_AT), "transparency log"),
    ] {
        refuses(wants(), NAME, &[signature], word);
    }
    let good = fulcio.signature(&log, email, issuer, SIGNED_AT);
    let without_chain = Signature { chain: None, ..good.clone() };
    refuses(wants(), NAME, &[without_chain], "does not count");
    let without_log = Signature { bundle: None, ..good.clone() };
    refuses(wants(), NAME, &[without_log], "transparency log");
    let signer = Signer::new();
    let plain = signer.signature(NAME, &digest());
    let purpose = ExtendedKeyUsagePurpose::ServerAuth;
    let certificate = fulcio.certificate_for(&signer, email, issuer, purpose);
    let bundle = Some(logged(&log, &plain, &certificate, SIGNED_AT));
    let of_server = Signature {
        certificate: Some(certificate),
        bundle,
        chain: Some(fulcio.between.pem()),
        ..plain
    };
    refuses(wants(), NAME, &[of_server], "does not count");
    // The key of the certificate must be the one that signed.
    let other = fulcio.signature(&log, email, issuer, SIGNED_AT);
    let mixed = Signature { certificate: other.certificate, ..good };
    refuses(wants(), NAME, &[mixed], "key of its certificate");
}

#[test]
fn what_is_not_understood_is_no_policy() {
    let key = Signer::new().data();
    for (requirements, word) in [
        (json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x" }]), "GPG"),
        (json!([{ "type": "sigstoreSigned", "keyData": key, "unknown": 1 }]), "unknown"),
        (json!([{ "type": "sigstoreSigned" }]), "either keys or fulcio"),
        (
            json!([{ "type": "sigstoreSigned", "fulcio": {
                "caPath": "/x", "oidcIssuer": "i", "subjectEmail": "e" } }]),
            "rekorPublicKey",
        ),
        (json!([]), "empty"),
        (
            json!([{ "type": "sigstoreSigned", "keyData": key,
                  "signedIdentity": { "type": "matchEverything" } }]),
            "matchEverything",
        ),
    ] {
        let error = policy(requirements).unwrap_err().to_string();
        assert!(error.contains(word), "{word:?} is not in {error}");
    }
    let missing = Policy::load(Path::new("/nonexistent/policy.json")).unwrap_err();
    assert!(missing.to_string().contains("policy.json"), "{missing}");
    let lost = json!([{ "type": "sigstoreSigned", "keyPath": "/nonexistent/key.pem" }]);
    let error = decide(lost, NAME, &[]).unwrap_err();
    assert!(error.contains("/nonexistent/key.pem"), "{error}");
}
