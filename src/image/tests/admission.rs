//! Signature policies from the pull to the making of a container.

use serde_json::json;

use super::{registry::Registry, *};
use crate::{
    image::{policy::tests::Signer, tar::tests::Builder},
    kind::Kind,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Attaches a signature to an image as cosign does.
fn attach(registry: &Registry, signer: &Signer, name: &str, digest: &Digest) {
    let signature = signer.signature(name, digest);
    let mut layer = registry.blob(signature.payload.as_bytes());
    layer["mediaType"] = json!("application/vnd.dev.cosign.simplesigning.v1+json");
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature.signature });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": registry.blob(b"{}"), "layers": [layer],
    });
    registry.manifest(
        &format!("{}.sig", digest.to_string().replace(':', "-")),
        MANIFEST,
        &manifest,
    );
}

struct Case {
    _directory: TempDir,
    registry: Registry,
    store: Arc<ImageStore>,
    signer: Signer,
    policies: std::path::PathBuf,
}

impl Case {
    fn new() -> Self {
        let registry = Registry::start();
        for tag in ["signed", "plain"] {
            let mut layer = Builder::default();
            layer.file("tag", tag.as_bytes());
            registry.push(tag, &[registry::gzip(layer.end())]);
        }
        let (directory, first) = store();
        drop(first);
        let policies = directory.path().join("policies");
        fs::create_dir(&policies).unwrap();
        let store = Arc::new(open_with(directory.path(), |options| {
            options.signature_policy = Some(policies.join("default"));
            options.signature_policy_dir = Some(policies.clone());
        }));
        Self { _directory: directory, registry, store, signer: Signer::new(), policies }
    }

    fn reference(&self, tag: &str) -> String {
        self.registry.reference(&format!("a:{tag}"))
    }

    fn write(&self, name: &str, requirement: serde_json::Value) {
        let policy = json!({ "default": [requirement] }).to_string();
        fs::write(self.policies.join(name), policy).unwrap();
    }

    fn signed_by(&self, signer: &Signer) -> serde_json::Value {
        json!({ "type": "sigstoreSigned", "keyData": signer.data() })
    }

    fn sign(&self) {
        let bytes = self.registry.content("manifests/signed");
        attach(&self.registry, &self.signer, &self.reference("signed"), &Digest::of(&bytes));
    }
}

fn is_refusal(error: &Error) -> bool {
    error.kind() == Kind::PermissionDenied
        && error.to_string().starts_with("SignatureValidationFailed")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_signed_images_come_in() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.sign();
    case.write("default", case.signed_by(&case.signer));
    let error = case.store.pull(&case.reference("plain"), None).await.unwrap_err();
    assert!(is_refusal(&error), "{error}");
    assert_eq!(case.registry.count("/blobs/"), 0, "layers were fetched of what is refused");
    let id = case.store.pull(&case.reference("signed"), None).await.unwrap();
    // The kubelet asks by id, and says what the user wrote beside it.
    case.store.admit(&id, &case.reference("signed"), "").unwrap();
    case.store.admit(&id, &id.to_string(), "").unwrap();
    let error = case.store.admit(&id, &case.reference("other"), "").unwrap_err();
    assert!(is_refusal(&error), "signed as another image: {error}");
    // A policy that is gone lets nothing in.
    fs::remove_file(case.policies.join("default")).unwrap();
    let error = case.store.pull(&case.reference("signed"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    assert!(case.store.admit(&id, &id.to_string(), "").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_counts_for_images_that_are_here() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.sign();
    case.write("default", json!({ "type": "insecureAcceptAnything" }));
    let reference = case.reference("signed");
    let id = case.store.pull(&reference, None).await.unwrap();
    case.store.admit(&id, &reference, "").unwrap();
    case.write("default", case.signed_by(&case.signer));
    let error = case.store.admit(&id, &reference, "").unwrap_err();
    assert!(is_refusal(&error), "its signatures are not here: {error}");
    // Another pull brings what is missing.
    assert_eq!(case.store.pull(&reference, None).await.unwrap(), id);
    case.store.admit(&id, &reference, "").unwrap();
    case.write("default", case.signed_by(&Signer::new()));
    assert!(is_refusal(&case.store.admit(&id, &reference, "").unwrap_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_has_a_policy_of_its_own() {
    if !is_root() {
        return;
    }
    let case = Case::new();
    case.write("default", json!({ "type": "insecureAcceptAnything" }));
    case.write("strict.json", case.signed_by(&case.signer));
    let reference = case.reference("plain");
    let error = case.store.pull_for(&reference, None, "strict").await.unwrap_err();
    assert!(is_refusal(&error), "{error}");
    let id = case.store.pull_for(&reference, None, "other").await.unwrap();
    assert!(is_refusal(&case.store.admit(&id, &reference, "strict").unwrap_err()));
    for namespace in ["other", "", "../policies/strict", "STRICT"] {
        case.store.admit(&id, &reference, namespace).unwrap();
    }
}
