//! Registries that trickle, that want to be left alone, and that send this node elsewhere.

use super::{
    registry::{Pushed, Registry, Reply, gzip, noise_bytes},
    *,
};
use crate::{image::tar::tests::Builder, kind::Kind};

fn layer(length: usize) -> Pushed {
    gzip(Builder::default().file("x", &noise_bytes(length)).end())
}

fn is_blob(path: &str) -> bool {
    path.contains("/blobs/")
}

async fn error_of(store: &ImageStore, registry: &Registry) -> Error {
    store.pull(&registry.reference("a:1"), None).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_trickles_is_given_up() {
    if !is_root() {
        return;
    }
    for large_layer in [8 << 20, 1000] {
        let registry = Registry::start();
        let (_directory, store) = store_with(|options| {
            options.progress_timeout = Duration::from_millis(300);
            options.min_rate = 10_000;
            options.large_layer = large_layer;
        });
        let layer = layer(100_000);
        let blob = Digest::of(&layer.stored).to_string();
        registry.push("1", &[layer]);
        registry.on_request(move |request, _| {
            let is_layer = request.path.ends_with(&blob);
            is_layer.then(|| Reply { drip: true, ..Reply::default() })
        });
        let error = error_of(&store, &registry).await;
        assert_eq!(error.kind(), Kind::DeadlineExceeded, "{error}");
        assert_eq!(error.sentinel(), Some("RegistryUnavailable"));
        // The same registry, and a node that has the time.
        let (_directory, store) = store_with(|options| {
            options.progress_timeout = Duration::from_secs(5);
            options.min_rate = 0;
        });
        let reference = registry.reference("a:1");
        let patient = store.pull(&reference, None);
        let answer = tokio::time::timeout(Duration::from_secs(2), patient).await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_bring_next_to_nothing_are_counted() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    registry.push("1", &[layer(100_000)]);
    registry.on_request(|request, _| {
        let is_layer = is_blob(&request.path) && request.header("accept") != "x";
        is_layer.then(|| Reply { cut: Some(10), ..Reply::default() })
    });
    let error = error_of(&store, &registry).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(registry.log().len() < 20, "{}", registry.log().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_an_hour_is_told_to_the_user_at_once() {
    let registry = Registry::start();
    let (_directory, store) = store();
    registry.on_request(|_, _| Some(Reply::status(429).with("Retry-After", "3600")));
    let error = error_of(&store, &registry).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let text = error.to_string();
    assert!(text.contains("429") && text.contains("3600 s"), "{text}");
    assert_eq!(registry.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_does_not_send_this_node_to_its_neighbours() {
    let registry = Registry::start();
    let (_directory, store) = store();
    registry.push("1", &[layer(1000)]);
    for host in ["10.0.0.1", "169.254.169.254", "[fd00::1]", "[::ffff:192.168.1.1]:5000"] {
        let target = host.to_owned();
        registry.on_request(move |request, _| {
            let location = format!("http://{target}/there");
            is_blob(&request.path).then(|| Reply::status(307).with("Location", location))
        });
        let error = error_of(&store, &registry).await.to_string();
        assert!(error.contains("where the registry is not"), "{host}: {error}");
        let target = host.to_owned();
        registry.on_request(move |_, _| {
            let challenge = format!("Bearer realm=\"http://{target}/token\"");
            Some(Reply::status(401).with("WWW-Authenticate", challenge))
        });
        let error = error_of(&store, &registry).await.to_string();
        assert!(error.contains("where the registry is not"), "{host}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_an_address_are_dropped() {
    if !is_root() {
        return;
    }
    let (registry, other) = (Registry::start(), Registry::start());
    let (_directory, store) = store();
    registry.push("1", &[layer(1000)]);
    other.push("1", &[layer(1000)]);
    other.on_request(|request, _| {
        let body = b"{\"token\":\"t\"}".to_vec();
        request.path.contains("/token").then(|| Reply { body, ..Reply::status(200) })
    });
    let target = other.address;
    registry.on_request(move |request, _| {
        let to = |path: &str| format!("http://user:secret@{target}{path}");
        if request.header("authorization") != "Bearer t" {
            let challenge = format!("Bearer realm=\"{}\"", to("/token"));
            return Some(Reply::status(401).with("WWW-Authenticate", challenge));
        }
        is_blob(&request.path).then(|| Reply::status(307).with("Location", to(&request.path)))
    });
    store.pull(&registry.reference("a:1"), None).await.unwrap();
    let seen = other.log();
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(seen.iter().all(|request| request.header("authorization").is_empty()), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mirror_does_not_have_is_told_where_nothing_else_is_in_reach() {
    let mirror = Registry::start();
    let (directory, store) = store();
    let certs = directory.path().join("certs.d/registry.example:5000");
    fs::create_dir_all(&certs).unwrap();
    let hosts = format!("server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\n", mirror.address);
    fs::write(certs.join("hosts.toml"), hosts).unwrap();
    let error = store.pull("registry.example:5000/a:1", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    let text = error.to_string();
    assert!(text.contains(&mirror.address.to_string()), "{text}");
    assert!(text.contains("127.0.0.1:1 cannot be reached"), "{text}");
    assert_eq!(mirror.log().len(), 1);
}
