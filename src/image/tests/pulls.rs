//! Pulls from a registry that behaves well, and from those that do not.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{
    registry::{Pushed, Registry, Reply, gzip, noise_bytes},
    *,
};
use crate::{image::tar::tests::Builder, kind::Kind};

fn base() -> Pushed {
    let mut builder = Builder::default();
    builder
        .directory("etc", 0o755, (0, 0))
        .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:100:101::/home/app:/bin/sh\n")
        .file("etc/group", b"app:x:101:\nextra:x:200:app\n")
        .directory("srv", 0o2750, (5, 6));
    gzip(builder.end())
}

/// A layer that no compression makes small.
fn noise(name: &str, length: usize) -> Pushed {
    gzip(Builder::default().file(name, &noise_bytes(length)).end())
}

fn is_blob(path: &str) -> bool {
    path.contains("/blobs/")
}

/// Nothing at all is left of a pull that failed for good; what is still being removed gets
/// a moment.
fn assert_empty(directory: &TempDir, store: &ImageStore) {
    let left = || -> Vec<_> {
        let list = |name| fs::read_dir(directory.path().join("images").join(name)).unwrap();
        ["layers", "tmp"].into_iter().flat_map(list).collect()
    };
    for _ in 0..100 {
        if left().is_empty() && store.fs_usage().inodes_used == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("left: {:?}, {:?}", left(), store.fs_usage());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_and_goes() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let plain = Builder::default().file("plain", b"1").end();
    let zstd_plain = Builder::default().file("zstd", b"2").end();
    let mut zstd_stored = zstd::encode_all(&zstd_plain[..700], 1).unwrap();
    zstd_stored.extend(b"\x50\x2a\x4d\x18\x04\0\0\0skip");
    zstd_stored.extend(zstd::encode_all(&zstd_plain[700..], 1).unwrap());
    let members_plain = Builder::default().file("members", b"3").end();
    let mut members_stored = gzip(members_plain[..700].to_vec()).stored;
    members_stored.extend(gzip(members_plain[700..].to_vec()).stored);
    members_stored.extend([0; 100]);
    registry.push(
        "1",
        &[
            base(),
            Pushed { stored: plain.clone(), plain },
            Pushed { stored: zstd_stored, plain: zstd_plain },
            Pushed { stored: members_stored, plain: members_plain },
            // The same layer twice is there once.
            base(),
        ],
    );
    let reference = registry.reference("a/b:1");
    let id = store.pull(&reference, None).await.unwrap();
    let image = store.find(&reference).unwrap();
    assert_eq!((image.id, image.repo_tags.as_slice()), (id, &[reference.clone()][..]));
    assert_eq!(image.repo_digests.len(), 1);
    assert_eq!(image.config.user, "app");
    assert!(image.size > 0);
    let layers = store.layers(&id).unwrap();
    assert_eq!(layers.len(), 4);
    assert!(layers[0].join("etc/passwd").is_file() && layers[1].join("members").is_file());
    let user = store.users(&id).unwrap().find("app").unwrap();
    assert_eq!(
        (user.uid, user.gid, user.home.as_str(), &user.groups[..]),
        (100, 101, "/home/app", &[200][..])
    );

    let blobs = registry.count("/blobs/");
    assert_eq!(store.pull(&reference, None).await.unwrap(), id);
    assert_eq!(store.pull(&image.repo_digests[0], None).await.unwrap(), id);
    assert_eq!(registry.count("/blobs/"), blobs, "a known image is not downloaded again");
    assert_eq!(store.list().len(), 1);

    here(|| store.remove(&reference)).unwrap();
    here(|| store.remove(&reference)).unwrap();
    assert!(store.list().is_empty());
    assert_empty(&directory, &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_give_this_platform() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    let manifest = registry.push("arch", &[base()]);
    let digest = Digest::of(manifest.to_string().as_bytes());
    let here = &super::super::platform::Platform::here().architecture;
    let entry = |os: &str, architecture: &str, digest: &Digest| {
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
                "platform": { "os": os, "architecture": architecture } })
    };
    let media_type = "application/vnd.oci.image.index.v1+json";
    let other = Digest::of(b"not there");
    let mut index = json!({ "schemaVersion": 2, "mediaType": media_type,
        "manifests": [entry("unknown", "unknown", &other), entry("linux", "s390x", &other), entry("linux", here, &digest)] });
    let index_digest = registry.manifest("index", media_type, &index);
    store.pull(&registry.reference("a:index"), None).await.unwrap();
    let image = store.find(&registry.reference("a:index")).unwrap();
    assert_eq!(image.repo_digests, [format!("{}@{index_digest}", registry.reference("a"))]);

    index["manifests"].as_array_mut().unwrap().pop();
    registry.manifest("foreign", media_type, &index);
    let error = store.pull(&registry.reference("a:foreign"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("linux/s390x"), "{error}");

    index["layers"] = json!([]);
    registry.manifest("ambiguous", media_type, &index);
    let error = store.pull(&registry.reference("a:ambiguous"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_leaves_nothing() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let layer = noise("x", 300_000);
    let digest = Digest::of(&layer.stored).to_string();
    registry.push("1", &[base(), layer]);
    let mut evil = noise("x", 300_000).stored;
    evil[1000] ^= 1;
    registry.on_request(move |request, _| {
        (request.path.ends_with(&digest))
            .then(|| Reply { body: evil.clone(), ..Reply::status(200) })
    });
    let error = store.pull(&registry.reference("a:1"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss, "{error}");
    assert_empty(&directory, &store);

    // The right bytes, but another diff id than the configuration promises.
    let Pushed { stored, .. } = noise("y", 1000);
    registry.push("2", &[base(), Pushed { plain: b"something else".to_vec(), stored }]);
    let error = store.pull(&registry.reference("a:2"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss, "{error}");
    assert_empty(&directory, &store);

    let hostile = Builder::default().file("../x", b"").end();
    registry.push("3", &[base(), gzip(hostile)]);
    let error = store.pull(&registry.reference("a:3"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    assert_empty(&directory, &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_it_broke() {
    if !is_root() {
        return;
    }
    for honours_range in [true, false] {
        let registry = Registry::start();
        let (_directory, store) = store();
        let layer = noise("x", 500_000);
        let digest = Digest::of(&layer.stored).to_string();
        let whole = layer.stored.clone();
        registry.push("1", &[layer]);
        let name = digest.clone();
        registry.on_request(move |request, earlier| {
            let is_layer = request.path.ends_with(&name);
            match earlier {
                0..3 if is_layer && honours_range => {
                    Some(Reply { cut: Some(100_000), ..Reply::default() })
                }
                0..3 if is_layer => {
                    let cut = Some(100_000 * (earlier + 1));
                    Some(Reply { body: whole.clone(), cut, ..Reply::status(200) })
                }
                _ => None,
            }
        });
        let id = store.pull(&registry.reference("a:1"), None).await.unwrap();
        let requests: Vec<_> =
            registry.log().into_iter().filter(|r| r.path.ends_with(&digest)).collect();
        let ranges: Vec<&str> = requests.iter().map(|r| r.header("range")).collect();
        assert_eq!(ranges, ["", "bytes=100000-", "bytes=200000-", "bytes=300000-"]);
        assert_eq!(fs::metadata(store.layers(&id).unwrap()[0].join("x")).unwrap().len(), 500_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_fails_is_passed_over_and_sees_no_secret() {
    if !is_root() {
        return;
    }
    let (mirror, registry) = (Registry::start(), Registry::start());
    let (directory, store) = store();
    registry.push("1", &[base()]);
    let certs = directory.path().join("certs.d").join(registry.address.to_string());
    fs::create_dir(&certs).unwrap();
    fs::write(
        certs.join("hosts.toml"),
        format!("[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\n[host.\"http://{}\".header]\nx-mine = \"yes\"\n",
                mirror.address, mirror.address),
    )
    .unwrap();
    let auth = Auth { username: "me".into(), password: "secret".into(), ..Auth::default() };
    registry.on_request(|request, _| {
        let is_known = request.header("authorization") == "Basic bWU6c2VjcmV0";
        (!is_known).then(|| Reply::status(401).with("WWW-Authenticate", "Basic realm=\"r\""))
    });
    mirror.on_request(|request, _| {
        is_blob(&request.path)
            .then(|| Reply::status(503))
            .or_else(|| Some(Reply::status(401).with("WWW-Authenticate", "Basic realm=\"r\"")))
    });
    let id = store.pull(&registry.reference("a:1"), Some(auth)).await.unwrap();
    assert_eq!(store.list()[0].id, id);
    assert_eq!(store.list()[0].repo_tags, [registry.reference("a:1")]);
    let seen = mirror.log();
    assert!(seen.len() >= 2);
    for request in seen {
        assert_eq!(request.header("authorization"), "");
        assert_eq!(request.header("x-mine"), "yes");
        assert!(request.path.contains("?ns="), "{}", request.path);
    }
    assert!(registry.log().iter().all(|request| request.header("x-mine").is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_with_every_kind_of_credentials() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    registry.push("1", &[base()]);
    let address = registry.address;
    registry.on_request(move |request, _| {
        if request.path.starts_with("/token") {
            let good = match request.method.as_str() {
                "POST" => {
                    request.body.contains("grant_type=refresh_token")
                        && request.body.contains("refresh_token=re+fresh")
                        && request.body.contains("scope=repository%3Aa%3Apull")
                }
                _ => {
                    request.path.contains("service=s")
                        && request.header("authorization") == "Basic bWU6c2VjcmV0"
                }
            };
            let token = br#"{"access_token":"good","expires_in":60}"#.to_vec();
            return Some(if good {
                Reply { body: token, ..Reply::status(200) }
            } else {
                Reply::status(401)
            });
        }
        let challenge = format!(
            "Bearer realm=\"http://{address}/token\",service=\"s\",scope=\"repository:a:pull\""
        );
        (request.header("authorization") != "Bearer good")
            .then(|| Reply::status(401).with("WWW-Authenticate", challenge))
    });
    let password = Auth { username: "me".into(), password: "secret".into(), ..Auth::default() };
    let encoded = Auth { auth: "bWU6c2VjcmV0".into(), ..Auth::default() };
    let identity = Auth { identity_token: "re fresh".into(), ..Auth::default() };
    let bearer = Auth { registry_token: "good".into(), ..Auth::default() };
    for auth in [password.clone(), encoded, identity, bearer] {
        let (_directory, store) = store();
        store.pull(&registry.reference("a:1"), Some(auth)).await.unwrap();
    }
    let wrong = Auth { password: "hunter2".into(), ..password.clone() };
    let elsewhere = Auth { server_address: "https://other.example".into(), ..password };
    for auth in [Some(wrong), Some(elsewhere), None] {
        let (_directory, store) = store();
        let error = store.pull(&registry.reference("a:1"), auth).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(&registry.reference("a:1")) && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_leave_credentials_behind() {
    if !is_root() {
        return;
    }
    let (registry, storage) = (Registry::start(), Registry::start());
    let (_directory, store) = store();
    registry.push("1", &[base()]);
    storage.push("1", &[base()]);
    let target = storage.address;
    registry.on_request(move |request, _| {
        if request.header("authorization").is_empty() {
            return Some(Reply::status(401).with("WWW-Authenticate", "Basic realm=\"r\""));
        }
        is_blob(&request.path).then(|| {
            Reply::status(307).with("Location", format!("http://{target}{}", request.path))
        })
    });
    let auth = Auth { username: "me".into(), password: "secret".into(), ..Auth::default() };
    store.pull(&registry.reference("a:1"), Some(auth)).await.unwrap();
    let seen = storage.log();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| request.header("authorization").is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_registry_is_given_time() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    registry.push("1", &[base()]);
    registry.on_request(|_, earlier| {
        (earlier == 0).then(|| Reply::status(429).with("Retry-After", "1"))
    });
    let start = std::time::Instant::now();
    store.pull(&registry.reference("a:1"), None).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(3), "each of three documents was to wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_their_kinds() {
    let registry = Registry::start();
    let (directory, store) = store();
    registry.push("1", &[base()]);
    registry.on_request(|request, _| {
        let path = &request.path;
        let status = |part: &str, status| path.contains(part).then(|| Reply::status(status));
        status("forbidden", 403).or(status("secret", 401)).or(status("teapot", 418))
    });
    for (name, kind) in [
        ("a:unknown", Kind::NotFound),
        ("forbidden:1", Kind::PermissionDenied),
        ("secret:1", Kind::Unauthenticated),
        ("teapot:1", Kind::Unavailable),
    ] {
        let reference = registry.reference(name);
        let error = store.pull(&reference, None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&reference) && text.contains(&registry.address.to_string()),
            "{text}"
        );
    }
    let error = store.pull("127.0.0.1:1/a:1", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert_eq!(store.pull("A B", None).await.unwrap_err().kind(), Kind::InvalidArgument);
    assert_empty(&directory, &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_registry_is_given_up() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) =
        store_with(|options| options.progress_timeout = Duration::from_millis(300));
    registry.push("1", &[noise("x", 100_000)]);
    registry.on_request(|request, _| {
        let is_layer = is_blob(&request.path) && request.header("range") != "x";
        is_layer.then(|| Reply { cut: Some(0), stall: true, ..Reply::default() })
    });
    let error = store.pull(&registry.reference("a:1"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded, "{error}");
    assert_empty(&directory, &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_drips_is_given_up() {
    let registry = Registry::start();
    let (directory, store) =
        store_with(|options| options.progress_timeout = Duration::from_millis(300));
    registry.push("1", &[noise("x", 1000)]);
    registry.on_request(|request, _| {
        let is_manifest = request.path.contains("/manifests/");
        is_manifest.then(|| Reply { drip: true, ..Reply::default() })
    });
    let error = store.pull(&registry.reference("a:1"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded, "{error}");
    assert_empty(&directory, &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pulls_are_one_download() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (_directory, store) = store();
    registry.push("1", &[base(), noise("x", 400_000)]);
    registry.push("2", &[base(), noise("x", 400_000)]);
    let references: Vec<String> = (0..40)
        .map(|index| registry.reference(if index % 2 == 0 { "a:1" } else { "b:2" }))
        .collect();
    let pulls = references.iter().map(|reference| store.pull(reference, None));
    let results = futures_util::future::join_all(pulls).await;
    let first = results[0].as_ref().unwrap();
    assert!(results.iter().all(|result| result.is_ok()));
    assert!(results.iter().step_by(2).all(|result| result.as_ref().unwrap() == first));
    // Two manifests, two configurations, two layers.
    assert_eq!(registry.log().len(), 6, "{:?}", registry.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_nobody_waits_for_ends() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    registry.push("1", &[noise("x", 400_000)]);
    let stalls = Arc::new(AtomicBool::new(true));
    let hook = stalls.clone();
    registry.on_request(move |request, _| {
        let stall = hook.load(Ordering::SeqCst) && is_blob(&request.path);
        stall.then(|| Reply { cut: Some(100_000), stall: true, ..Reply::default() })
    });
    let reference = registry.reference("a:1");
    let pull = tokio::time::timeout(Duration::from_millis(700), store.pull(&reference, None));
    assert!(pull.await.is_err());
    let layers = directory.path().join("images/layers");
    for _ in 0..100 {
        if fs::read_dir(&layers).unwrap().next().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_empty(&directory, &store);
    stalls.store(false, Ordering::SeqCst);
    store.pull(&reference, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_image_keeps_its_layers() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    registry.push("1", &[base(), noise("x", 1000)]);
    let reference = registry.reference("a:1");
    let id = store.pull(&reference, None).await.unwrap();
    let layers = store.hold(&id, "container-1").unwrap();
    here(|| store.remove(&reference)).unwrap();
    assert!(store.list().is_empty());
    assert_eq!(store.layers(&id).unwrap(), layers);
    assert!(layers.iter().all(|layer| layer.is_dir()));
    assert!(store.users(&id).unwrap().find("app").is_ok());
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.holders().unwrap(), ["container-1"]);
    assert_eq!(store.held_layers("container-1").unwrap(), layers);
    assert_eq!(store.layers(&id).unwrap(), layers);
    here(|| store.release("container-1")).unwrap();
    here(|| store.release("container-1")).unwrap();
    assert_eq!(store.layers(&id).unwrap_err().kind(), Kind::NotFound);
    assert!(store.hold(&id, "../evil").is_err());
    assert_empty(&directory, &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_a_clean_store_and_goes_on() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let (small, large) = (base(), noise("x", 400_000));
    let small_digest = Digest::of(&small.stored).to_string();
    let large_digest = Digest::of(&large.stored).to_string();
    registry.push("1", &[small, large]);
    let broken = large_digest.clone();
    registry
        .on_request(move |request, _| request.path.ends_with(&broken).then(|| Reply::status(500)));
    let reference = registry.reference("a:1");
    assert_eq!(store.pull(&reference, None).await.unwrap_err().kind(), Kind::Unavailable);
    drop(store);
    let layers = directory.path().join("images/layers");
    fs::create_dir_all(layers.join("77/half/done")).unwrap();
    let store = Arc::new(open(directory.path()));
    assert!(!layers.join("77").exists());
    assert!(store.list().is_empty());
    registry.on_request(|_, _| None);
    let id = store.pull(&reference, None).await.unwrap();
    assert_eq!(registry.count(&small_digest), 1, "the whole layer was kept");
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.find(&reference).unwrap().id, id);
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 2, "no note is left beside the layers");
    // An image whose layer was lost is no image.
    let lost = store.layers(&id).unwrap().remove(0);
    drop(store);
    fs::remove_dir_all(lost).unwrap();
    let store = open(directory.path());
    assert!(store.list().is_empty());
    assert_empty(&directory, &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn implied_directories_are_those_of_the_layers_below() {
    use std::os::unix::fs::MetadataExt;
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let upper = || gzip(Builder::default().file("srv/new", b"1").end());
    let other = gzip(
        Builder::default().directory("./", 0o711, (9, 9)).directory("srv", 0o700, (7, 7)).end(),
    );
    registry.push("1", &[base(), upper()]);
    registry.push("2", &[other, upper()]);
    registry.push("3", &[base(), noise("x", 10), upper()]);
    let mut tops = Vec::new();
    for tag in ["a:1", "a:2", "a:3"] {
        let id = store.pull(&registry.reference(tag), None).await.unwrap();
        tops.push(store.layers(&id).unwrap().remove(0));
    }
    let srv = |index: usize| {
        let stat = fs::metadata(tops[index].join("srv")).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.gid())
    };
    assert_eq!(srv(0), (0o2750, 5, 6));
    assert_eq!(srv(1), (0o700, 7, 7));
    assert_eq!(fs::metadata(&tops[1]).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(tops[0], tops[2], "what fits is shared");
    assert_ne!(tops[0], tops[1]);
    for tag in ["a:1", "a:2", "a:3"] {
        here(|| store.remove(&registry.reference(tag))).unwrap();
    }
    assert_empty(&directory, &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_goes_through_the_links_of_those_below() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    let merged = gzip(
        Builder::default()
            .directory("usr", 0o755, (0, 0))
            .directory("usr/bin", 0o751, (0, 3))
            .file("usr/bin/sh", b"sh")
            .symlink("bin", "usr/bin")
            .symlink("lib", "/usr/lib")
            .symlink("lost", "/nowhere")
            .end(),
    );
    let upper = || {
        gzip(
            Builder::default()
                .file("bin/deep/tool", b"tool")
                .file("bin/.wh.old", b"")
                .file("usr/bin/deep/other", b"other")
                .file("lost/x", b"1")
                .end(),
        )
    };
    registry.push("1", &[merged, upper()]);
    registry.push("2", &[base(), upper()]);
    let one = store.pull(&registry.reference("a:1"), None).await.unwrap();
    let two = store.pull(&registry.reference("a:2"), None).await.unwrap();
    let one = store.layers(&one).unwrap().remove(0);
    let two = store.layers(&two).unwrap().remove(0);
    assert!(!one.join("bin").exists());
    assert_eq!(fs::read(one.join("usr/bin/deep/tool")).unwrap(), b"tool");
    assert_eq!(fs::read(one.join("usr/bin/deep/other")).unwrap(), b"other");
    assert!(fs::symlink_metadata(one.join("usr/bin/old")).is_ok());
    assert!(one.join("lost/x").is_file());
    let stat = fs::metadata(one.join("usr/bin")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((stat.mode() & 0o7777, stat.gid()), (0o751, 3));
    assert_eq!(fs::read(two.join("bin/deep/tool")).unwrap(), b"tool");
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.list().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_and_removals_at_once_keep_the_books_right() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let (directory, store) = store();
    registry.push("1", &[base(), noise("a", 1000)]);
    registry.push("2", &[base(), noise("a", 1000), noise("b", 1000)]);
    registry.push("3", &[noise("a", 1000), gzip(Builder::default().file("srv/x", b"1").end())]);
    let until = std::time::Instant::now() + Duration::from_secs(2);
    let tasks = (0..9).map(|index| {
        let store = store.clone();
        let reference = registry.reference(&format!("a:{}", index % 3 + 1));
        tokio::spawn(async move {
            while std::time::Instant::now() < until {
                let id = store.pull(&reference, None).await.unwrap();
                let holder = format!("h{index}");
                if let Ok(layers) = store.hold(&id, &holder) {
                    let removing = store.clone();
                    let name = reference.clone();
                    tokio::task::spawn_blocking(move || removing.remove(&name))
                        .await
                        .unwrap()
                        .unwrap();
                    assert!(layers.iter().all(|layer| layer.is_dir()), "a held layer is gone");
                    here(|| store.release(&holder)).unwrap();
                }
            }
        })
    });
    for result in futures_util::future::join_all(tasks).await {
        result.unwrap();
    }
    for image in store.list() {
        here(|| store.remove(&image.id.to_string())).unwrap();
    }
    assert_empty(&directory, &store);
    drop(store);
    let store = open(directory.path());
    assert!(store.list().is_empty());
    assert_empty(&directory, &store);
}
