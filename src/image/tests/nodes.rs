//! What a node's configuration says about registries: certificates, mirrors, proxies,
//! credentials and rules.

use std::process::{Command, ExitStatus, Stdio};

use super::{
    kills::{REFERENCE, ROOT},
    registry::{Pushed, Registry, Reply, gzip},
    tls::Authority,
    *,
};
use crate::{image::tar::tests::Builder, kind::Kind};

fn layer() -> Pushed {
    gzip(Builder::default().file("x", b"1").end())
}

/// Writes the `hosts.toml` of a registry, or of all of them with `_default`.
fn hosts(directory: &TempDir, registry: &str, text: &str) -> std::path::PathBuf {
    let certs = directory.path().join("certs.d").join(registry);
    fs::create_dir_all(&certs).unwrap();
    fs::write(certs.join("hosts.toml"), text).unwrap();
    certs
}

/// Pulls in a process of its own, whose environment the test decides.
fn pull_elsewhere(
    directory: &TempDir,
    reference: &str,
    environment: &[(&str, &str)],
) -> ExitStatus {
    let mut pull = elsewhere(directory, reference, environment);
    pull.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
}

/// The same, and what it says.
fn said_elsewhere(directory: &TempDir, reference: &str, environment: &[(&str, &str)]) -> String {
    let output = elsewhere(directory, reference, environment).arg("--nocapture").output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn elsewhere(directory: &TempDir, reference: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "image::tests::kills::child"])
        .env(ROOT, directory.path())
        .env(REFERENCE, reference)
        .envs(environment.iter().copied());
    command
}

fn rules(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Rules::default();
    change(&mut rules);
    rules
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_those_that_the_node_names() {
    if !is_root() {
        return;
    }
    let authority = Authority::new();
    let registry = Registry::start_tls(authority.server("127.0.0.1", true));
    registry.push("1", &[layer()]);
    let (directory, store) = store();
    let (name, reference) = (registry.address.to_string(), registry.reference("a:1"));
    let server = format!("server = \"https://{name}\"\n");
    let certs = hosts(&directory, &name, &server);
    let error = store.pull(&reference, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert_eq!(error.sentinel(), Some("RegistryUnavailable"));

    let identity = authority.identity("node");
    fs::write(certs.join("ca.crt"), authority.pem()).unwrap();
    fs::write(certs.join("me.cert"), identity.certificate).unwrap();
    fs::write(certs.join("me.key"), identity.key).unwrap();
    hosts(&directory, &name, &format!("{server}ca = \"ca.crt\"\n"));
    let error = store.pull(&reference, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "without a client's certificate: {error}");
    hosts(
        &directory,
        &name,
        &format!("{server}ca = \"ca.crt\"\nclient = [[\"me.cert\", \"me.key\"]]\n"),
    );
    store.pull(&reference, None).await.unwrap();
    assert!(store.find(&reference).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insecure_registry_may_have_any_certificate_or_none() {
    if !is_root() {
        return;
    }
    let encrypted = Registry::start_tls(Authority::new().server("elsewhere.example", false));
    let plain = Registry::start();
    for registry in [encrypted, plain] {
        registry.push("1", &[layer()]);
        let (directory, store) = store();
        let name = registry.address.to_string();
        hosts(&directory, &name, &format!("server = \"https://{name}\"\n"));
        let reference = registry.reference("a:1");
        assert_eq!(store.pull(&reference, None).await.unwrap_err().kind(), Kind::Unavailable);
        store.set_rules(rules(|rules| rules.insecure = vec![name.parse().unwrap()]));
        store.pull(&reference, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificates_of_the_system_may_be_in_a_file() {
    if !is_root() {
        return;
    }
    let authority = Authority::new();
    let registry = Registry::start_tls(authority.server("127.0.0.1", false));
    registry.push("1", &[layer()]);
    let (directory, store) = store();
    drop(store);
    let name = registry.address.to_string();
    hosts(&directory, &name, &format!("server = \"https://{name}\"\n"));
    let file = directory.path().join("roots.pem");
    fs::write(&file, authority.pem()).unwrap();
    let file = file.to_str().unwrap();
    let reference = registry.reference("a:1");
    assert!(!pull_elsewhere(&directory, &reference, &[]).success());
    assert!(pull_elsewhere(&directory, &reference, &[("SSL_CERT_FILE", file)]).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_certificates_pulls_where_it_needs_none() {
    if !is_root() {
        return;
    }
    let authority = Authority::new();
    let registry = Registry::start_tls(authority.server("127.0.0.1", false));
    let plain = Registry::start();
    for registry in [&registry, &plain] {
        registry.push("1", &[layer()]);
    }
    let (directory, store) = store();
    drop(store);
    let none = directory.path().join("none.pem");
    fs::write(&none, "").unwrap();
    let empty = directory.path().to_str().unwrap();
    let nothing = [("SSL_CERT_FILE", none.to_str().unwrap()), ("SSL_CERT_DIR", empty)];
    assert!(pull_elsewhere(&directory, &plain.reference("a:1"), &nothing).success());
    let name = registry.address.to_string();
    let certs = hosts(&directory, &name, &format!("server = \"https://{name}\"\n"));
    let said = said_elsewhere(&directory, &registry.reference("a:1"), &nothing);
    assert!(said.contains("install ca-certificates"), "{said}");
    fs::write(certs.join("ca.crt"), authority.pem()).unwrap();
    hosts(&directory, &name, &format!("server = \"https://{name}\"\nca = \"ca.crt\"\n"));
    assert!(pull_elsewhere(&directory, &registry.reference("a:1"), &nothing).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_those_of_the_environment() {
    if !is_root() {
        return;
    }
    // It answers requests for whole addresses as if it had passed them on.
    let proxy = Registry::start();
    proxy.push("1", &[layer()]);
    proxy.on_request(|request, _| (request.method == "CONNECT").then(|| Reply::status(403)));
    let (directory, store) = store();
    drop(store);
    hosts(&directory, "plain.invalid", "server = \"http://plain.invalid\"\n");
    let address = format!("http://{}", proxy.address);
    let plain = [("HTTP_PROXY", address.as_str()), ("http_proxy", &address)];
    assert!(pull_elsewhere(&directory, "plain.invalid/a:1", &plain).success());
    assert!(proxy.log().iter().all(|r| r.path.starts_with("http://plain.invalid/v2/a/")));
    let before = proxy.log().len();
    let except = [plain[0], plain[1], ("NO_PROXY", "other.invalid,plain.invalid")];
    assert!(!pull_elsewhere(&directory, "plain.invalid/a:1", &except).success());
    assert_eq!(proxy.log().len(), before, "a host of NO_PROXY is asked directly");
    let encrypted = [("HTTPS_PROXY", address.as_str())];
    assert!(!pull_elsewhere(&directory, "secret.invalid/a:1", &encrypted).success());
    assert!(proxy.log()[before..].iter().all(|r| r.method == "CONNECT"));
    assert!(proxy.log()[before..].iter().any(|r| r.path == "secret.invalid:443"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_do_what_they_are_able_to() {
    if !is_root() {
        return;
    }
    let (content, registry) = (Registry::start(), Registry::start());
    let untrusted = Registry::start_tls(Authority::new().server("127.0.0.1", false));
    content.push("1", &[layer()]);
    registry.push("1", &[layer()]);
    let (directory, store) = store();
    let text = format!(
        "server = \"http://{}\"\n[host.\"https://{}\"]\n[host.\"http://{}/exact\"]\n\
         override_path = true\ncapabilities = [\"pull\"]\n",
        registry.address, untrusted.address, content.address
    );
    hosts(&directory, "_default", &text);
    store.pull("anything.example/a:1", None).await.unwrap();
    assert!(store.find("anything.example/a:1").is_some());
    let paths = |registry: &Registry| -> Vec<String> {
        registry.log().into_iter().map(|request| request.path).collect()
    };
    assert!(untrusted.log().is_empty(), "no request goes to whom cannot be trusted");
    assert_eq!(paths(&registry), ["/v2/a/manifests/1?ns=anything.example"]);
    let blobs = paths(&content);
    assert_eq!(blobs.len(), 2, "configuration and layer");
    assert!(blobs.iter().all(|path| path.starts_with("/exact/a/blobs/sha256:")), "{blobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_the_node_stand_in() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    registry.push("1", &[layer()]);
    registry.on_request(|request, _| {
        // "node:secret" and "pod:secret"
        let known = ["Basic bm9kZTpzZWNyZXQ=", "Basic cG9kOnNlY3JldA=="];
        let is_known = known.contains(&request.header("authorization"));
        (!is_known).then(|| Reply::status(401).with("WWW-Authenticate", "Basic realm=\"r\""))
    });
    let (directory, store) = store();
    let file = directory.path().join("config.json");
    store.set_rules(rules(|rules| rules.auth_files = vec![file.clone()]));
    let reference = registry.reference("team/a:1");
    let denied = store.pull(&reference, None).await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Unauthenticated, "no such file: {denied}");
    let write = |key: &str| {
        let auths = serde_json::json!({ key: { "username": "node", "password": "secret" } });
        fs::write(&file, serde_json::json!({ "auths": auths }).to_string()).unwrap();
    };
    write(&format!("{}/other", registry.address));
    let denied = store.pull(&reference, None).await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Unauthenticated, "of another repository: {denied}");
    write(&format!("{}/team", registry.address));
    store.pull(&reference, None).await.unwrap();
    let pod = Auth { username: "pod".into(), password: "secret".into(), ..Auth::default() };
    store.pull(&reference, Some(pod)).await.unwrap();
    let last = registry.log().pop().unwrap();
    assert_eq!(last.header("authorization"), "Basic cG9kOnNlY3JldA==", "the pod's go first");
    fs::write(&file, "{").unwrap();
    let error = store.pull(&reference, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_change_while_the_store_is_open() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    registry.push("1", &[layer()]);
    let (_directory, store) = store();
    let reference = registry.reference("team/a:1");
    let pattern = format!("{}/team", registry.address).parse().unwrap();
    store.set_rules(rules(|rules| rules.blocked = vec![pattern]));
    let error = store.pull(&reference, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
    assert!(registry.log().is_empty());
    store.set_rules(rules(|rules| rules.pinned = vec![NamePattern::new("*/team/*")]));
    store.pull(&reference, None).await.unwrap();
    assert!(store.list()[0].pinned && store.find(&reference).unwrap().pinned);
    store.set_rules(Rules::default());
    assert!(!store.list()[0].pinned);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_may_have_longer_digests_and_images_go_by_their_ids() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    let mut manifest = registry.push("1", &[layer()]);
    let long: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    let stored = layer().stored;
    let digest = long.same_of(&stored);
    registry.store(&format!("blobs/{digest}"), &stored);
    manifest["layers"][0]["digest"] = digest.to_string().into();
    let manifest = manifest.to_string();
    let digest = long.same_of(manifest.as_bytes());
    registry.store(&format!("manifests/{digest}"), manifest.as_bytes());
    let reference = registry.reference(&format!("a@{digest}"));
    let id = store.pull(&reference, None).await.unwrap();
    assert_eq!(store.find(&reference).unwrap().repo_digests, std::slice::from_ref(&reference));
    let requests = registry.log().len();
    assert_eq!(store.pull(&id.to_string(), None).await.unwrap(), id);
    assert_eq!(store.pull(&id.0.hex(), None).await.unwrap(), id);
    assert_eq!(registry.log().len(), requests, "an id needs no registry");
    here(|| store.remove(&id.0.hex()[..12])).unwrap();
    let error = store.pull(&id.to_string(), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");

    // The digest is looked at by its own algorithm.
    registry.store(&format!("manifests/{digest}"), b"{}");
    let error = store.pull(&reference, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss, "{error}");
}
