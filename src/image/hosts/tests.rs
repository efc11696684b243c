//! `hosts.toml` by table.

use super::*;

fn parsed(text: &str, registry: &str) -> Vec<Endpoint> {
    parse(text, Path::new("/x/hosts.toml"), registry).unwrap()
}

#[test]
fn defaults_without_a_file() {
    let empty = tempfile::tempdir().unwrap();
    for (registry, base) in [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("quay.io", "https://quay.io/v2"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
        ("localhost", "http://localhost/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
    ] {
        let found = endpoints(empty.path(), registry, false).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].base.as_str(), base);
    }
}

#[test]
fn hosts_come_in_the_order_of_the_file() {
    let text = r#"
        server = "https://real.example"
        [host."https://z.example"]
        capabilities = ["pull"]
        dial_timeout = "1m500ms"
        [host."http://a.example:8080/proxy"]
        capabilities = ["pull", "resolve"]
        [host."http://a.example:8080/proxy".header]
        x-token = ["one", "two"]
        y = "three"
        [host."m.example/exact"]
        override_path = true
        skip_verify = true
    "#;
    let found = parsed(text, "docker.io");
    let bases: Vec<&str> = found.iter().map(|e| e.base.as_str()).collect();
    assert_eq!(
        bases,
        [
            "https://z.example/v2",
            "http://a.example:8080/proxy/v2",
            "https://m.example/exact",
            "https://real.example/v2"
        ]
    );
    assert_eq!((found[0].pull, found[0].resolve), (true, false));
    assert_eq!((found[3].pull, found[3].resolve), (true, true));
    assert_eq!(found[0].transport.dial_timeout, Duration::from_millis(60_500));
    assert_eq!(found[1].headers.get_all("x-token").iter().count(), 2);
    assert_eq!(found[1].host, "a.example:8080");
    assert!(found[2].transport.skip_verify && !found[3].transport.skip_verify);
}

#[test]
fn wrong_files_name_themselves() {
    for text in [
        "server = 3",
        "host = 3",
        "[host.\"ftp://x\"]",
        "[host.\"https://u:p@x\"]",
        "[host.\"https://x\"]\ndial_timeout = \"soon\"",
        "[host.\"https://x\"]\nca = \"missing.pem\"",
        "[host.\"https://x\"]\nskip_verify = \"yes\"",
        "[host.\"https://x\".header]\n\"a b\" = \"c\"",
        "[",
    ] {
        let error = parse(text, Path::new("/x/hosts.toml"), "a.io").expect_err(text);
        assert!(error.to_string().contains("/x/hosts.toml"), "{error}");
    }
}

#[test]
fn certificates_and_directories() {
    let root = tempfile::tempdir().unwrap();
    let host = root.path().join("r.example_5000_");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("ca.crt"), "CA").unwrap();
    fs::write(host.join("me.cert"), "CERT").unwrap();
    fs::write(host.join("me.key"), "KEY").unwrap();
    let found = endpoints(root.path(), "r.example:5000", false).unwrap();
    assert_eq!(found[0].transport.authorities, [b"CA".to_vec()]);
    assert_eq!(found[0].transport.identity.as_deref(), Some(&b"CERT\nKEY\n"[..]));
    fs::write(
        host.join("hosts.toml"),
        "[host.\"https://m\"]\nca = [\"ca.crt\"]\nclient = [[\"me.cert\", \"me.key\"]]",
    )
    .unwrap();
    let found = endpoints(root.path(), "r.example:5000", false).unwrap();
    assert_eq!(found[0].transport.authorities, [b"CA".to_vec()]);
    assert_eq!(found[0].transport.identity.as_deref(), Some(&b"CERT\nKEY\n"[..]));
    assert!(found[1].transport.identity.is_none());
    let fallback = root.path().join("_default");
    fs::create_dir(&fallback).unwrap();
    fs::write(fallback.join("hosts.toml"), "[host.\"http://mirror\"]").unwrap();
    let found = endpoints(root.path(), "quay.io", false).unwrap();
    assert_eq!(found[0].base.as_str(), "http://mirror/v2");
    assert_eq!(found[1].base.as_str(), "https://quay.io/v2");
}

#[test]
fn an_insecure_registry_is_tried_both_ways() {
    let empty = tempfile::tempdir().unwrap();
    let found = endpoints(empty.path(), "r.example:5000", true).unwrap();
    let bases: Vec<&str> = found.iter().map(|endpoint| endpoint.base.as_str()).collect();
    assert_eq!(bases, ["https://r.example:5000/v2", "http://r.example:5000/v2"]);
    assert!(found[0].transport.skip_verify && found[1].transport.plain);
    assert_eq!(endpoints(empty.path(), "localhost:5000", true).unwrap().len(), 1);
}
