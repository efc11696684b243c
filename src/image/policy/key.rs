//! Public keys of signatures.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use x509_cert::{
    der::{Decode, asn1::ObjectIdentifier},
    spki::SubjectPublicKeyInfoRef,
};

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that signatures are checked with: ECDSA on P-256 or P-384, RSA, Ed25519, all over
/// SHA-256 as cosign does.
pub(super) struct Key {
    /// The whole `SubjectPublicKeyInfo`, by which keys are compared.
    pub(super) der: Vec<u8>,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Key {
    /// All keys of a PEM file.
    pub(super) fn all_of_pem(pem: &[u8]) -> Result<Vec<Self>, String> {
        let keys: Vec<Self> = SubjectPublicKeyInfoDer::pem_slice_iter(pem)
            .map(|der| Self::of_der(der.map_err(|error| error.to_string())?.as_ref()))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() { Err("it holds no PUBLIC KEY in PEM".to_owned()) } else { Ok(keys) }
    }

    /// The key of a `SubjectPublicKeyInfo`.
    pub(super) fn of_der(der: &[u8]) -> Result<Self, String> {
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|error| error.to_string())?;
        let algorithm = algorithm(&info).ok_or("its kind of key is not supported")?;
        let bits = info.subject_public_key.as_bytes().ok_or("its key is not whole bytes")?;
        Ok(Self { der: der.to_vec(), key: UnparsedPublicKey::new(algorithm, bits.to_vec()) })
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify(message, signature).is_ok()
    }
}

fn algorithm(info: &SubjectPublicKeyInfoRef<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let parameters = info.algorithm.parameters;
    let curve = || parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    Some(match info.algorithm.oid {
        RSA => &signature::RSA_PKCS1_2048_8192_SHA256,
        ED25519 => &signature::ED25519,
        EC if curve() == Some(P256) => &signature::ECDSA_P256_SHA256_ASN1,
        EC if curve() == Some(P384) => &signature::ECDSA_P384_SHA256_ASN1,
        _ => return None,
    })
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}
