//! Which images come in and which are run, by the signature policy of this node or of one
//! namespace. Decided when an image is pulled, before any of its layers is fetched; and again,
//! with the signatures that were kept then, when a container is made from it, since the policy
//! may have changed and images may have come by another way.

use std::{path::PathBuf, sync::Arc};

use super::{
    Digest, Error, Image, ImageId, Reference,
    images::is_id_of,
    manifest::Document,
    policy::{Candidate, Policy},
    records::{Records, absent},
    registry::{Session, SharedSession},
    signature::Signature,
    task::Workers,
};

/// The tag that cosign gives to the signatures of a digest ends with this.
const SUFFIX: &str = "sig";
const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

/// Signatures of one image that are looked at.
const SIGNATURES: usize = 32;
/// The most that one payload may have; honest ones have some hundred bytes.
const PAYLOAD_LIMIT: u64 = 64 << 10;

/// Who decides which images come in and which are run.
pub(super) struct Admission {
    pub(super) records: Arc<Records>,
}

impl Admission {
    /// The policy that decides for pods of a namespace, which may be empty; none where none is
    /// configured.
    pub(super) fn policy(&self, namespace: &str) -> Result<Option<Policy>, Error> {
        let options = &self.records.options;
        let of_namespace = options.signature_policy_dir.as_ref().and_then(|directory| {
            // A namespace is a DNS label; nothing else becomes a file name.
            let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let is_good = !namespace.is_empty() && namespace.bytes().all(is_label);
            let path = directory.join(format!("{namespace}.json"));
            Some(path).filter(|path| is_good && path.exists())
        });
        let path: Option<PathBuf> = of_namespace.or_else(|| options.signature_policy.clone());
        path.map(|path| Policy::load(&path)).transpose()
    }

    /// Whether containers may be made from the image under the name by which the user knows
    /// it, an id included.
    ///
    /// # Errors
    /// [`Error::Signature`] where the policy does not let it in, and a policy that cannot be
    /// used.
    pub(super) fn admit(&self, id: &ImageId, name: &str, namespace: &str) -> Result<(), Error> {
        let Some(policy) = self.policy(namespace)? else { return Ok(()) };
        let (image, signatures, mut digests) = {
            let state = self.records.lock();
            let record = state.images.record(id).ok_or_else(|| absent(id))?;
            let image = state.images.get(id).ok_or_else(|| absent(id))?;
            (image, record.signatures.clone(), record.manifests.clone())
        };
        let references = names_of(&image, name);
        digests.extend(
            image.repo_digests.iter().filter_map(|d| d.rsplit('@').next()?.parse::<Digest>().ok()),
        );
        let mut first = None;
        for reference in &references {
            let candidate = Candidate { reference, digests: &digests };
            match policy.decide(&candidate, &signatures) {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::Signature {
            reference: name.to_owned(),
            reason: "it has no name that a policy could be about; pull it by its name".to_owned(),
        }))
    }
}

/// What a policy may know the image by: the name that was used, or where that is an id, each
/// name that the image has. A name of the image goes before an id, as when images are found.
fn names_of(image: &Image, name: &str) -> Vec<Reference> {
    let names = image.repo_tags.iter().chain(&image.repo_digests);
    let names: Vec<Reference> = names.filter_map(|name| Reference::parse(name).ok()).collect();
    match Reference::parse(name) {
        Ok(reference) if names.contains(&reference) => vec![reference],
        _ if is_id_of(&image.id, name) => names,
        reference => reference.into_iter().collect(),
    }
}

/// Decides about an image that is being pulled. Gives its signatures, to be kept with it.
pub(super) async fn judge(
    policy: Option<Policy>,
    session: &SharedSession,
    digests: &[Digest],
    workers: &Workers,
) -> Result<Vec<Signature>, Error> {
    let Some(policy) = policy else { return Ok(Vec::new()) };
    let mut signatures = Vec::new();
    if policy.wants_signatures(&session.reference) {
        for digest in digests {
            signatures.extend(attached(session, digest).await?);
        }
        signatures.truncate(SIGNATURES);
    }
    let (session, digests) = (session.clone(), digests.to_vec());
    // The keys are files.
    let decide = move || {
        let candidate = Candidate { reference: &session.reference, digests: &digests };
        policy.decide(&candidate, &signatures).map(|()| signatures)
    };
    workers.run(decide).await
}

/// The signatures that the registry has for a digest, as cosign stores them.
async fn attached(session: &Session, digest: &Digest) -> Result<Vec<Signature>, Error> {
    let tag = format!("{}.{SUFFIX}", digest.to_string().replace(':', "-"));
    let Some((bytes, media_type)) = session.manifest_of_tag(&tag).await? else {
        return Ok(Vec::new());
    };
    let Ok(Document::Image(manifest)) = Document::parse(&bytes, &media_type) else {
        return Ok(Vec::new());
    };
    let mut signatures = Vec::new();
    for layer in manifest.layers.iter().filter(|l| l.media_type == MEDIA_TYPE).take(SIGNATURES) {
        let annotation = |name: &str| layer.annotations.get(name).cloned();
        let Some(signature) = annotation(SIGNATURE) else { continue };
        let payload = session.small_blob(&layer.digest, PAYLOAD_LIMIT).await?;
        let Ok(payload) = String::from_utf8(payload) else { continue };
        signatures.push(Signature {
            payload,
            signature,
            certificate: annotation(CERTIFICATE),
            chain: annotation(CHAIN),
            bundle: annotation(BUNDLE),
        });
    }
    Ok(signatures)
}
