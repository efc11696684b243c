//! The signature policy as the kubelet meets it.

mod common;

use std::fs;

use common::{Node, image, leaks, requests};
use tonic::Code;

#[tokio::test]
async fn containers_of_refused_images_are_not_made() {
    requires_root!();
    let policies = tempfile::tempdir().unwrap();
    let file = policies.path().join("policy.json");
    let policy = |of_test: &str| {
        let text = format!(
            r#"{{"default": [{{"type": "reject"}}],
                 "transports": {{"docker": {{"docker.io/library/test": [{{"type": "{of_test}"}}]}}}}}}"#
        );
        fs::write(&file, text).unwrap();
    };
    policy("insecureAcceptAnything");
    let more = format!("warm_monitors = 0\n[image]\nsignature_policy = {:?}", file);
    let mut node = Node::start_with(&more).await;
    image::import_other(node.directory.path(), "other", &[]);
    let pod = node.pod("p").await;

    let id = node.create(&pod, requests::script("accepted", "true")).await.unwrap();
    let mut refused = requests::script("refused", "true");
    refused.image.as_mut().unwrap().image = "docker.io/library/other:1".to_owned();
    let error = node.create(&pod, refused).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    assert!(error.message().starts_with("SignatureValidationFailed"), "{error}");

    // What was accepted once goes on; the next one is judged anew.
    policy("reject");
    node.start_container(&id).await.unwrap();
    let error = node.create(&pod, requests::script("later", "true")).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    fs::write(&file, "{").unwrap();
    let error = node.create(&pod, requests::script("broken", "true")).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("policy.json"), "{error}");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
