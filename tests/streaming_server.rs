//! The streaming server itself: tokens, bounds, TLS, and its end.

mod common;

use std::{process::Command, sync::Arc};

use common::{
    Node, requests,
    streams::{FULL, Protocol, Remote, Target, Wanted, ports, spdy},
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::AsyncReadExt;

const PLAIN: Wanted = Wanted { stdin: false, stderr: true, tty: false };
const INPUT: Wanted = Wanted { stdin: true, stderr: true, tty: false };

const UPGRADE: [(&str, &str); 3] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "SPDY/3.1"),
    ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
];

async fn node_with_container(streaming: &str) -> (Node, String) {
    let mut node = Node::start_with(&format!("warm_monitors = 0\n[streaming]\n{streaming}")).await;
    let pod = node.pod("server").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    (node, id)
}

/// The status of a request for a path of the server.
async fn status_of(target: &Target, headers: &[(&str, &str)]) -> u16 {
    target.upgrade(&mut target.connect().await, headers).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_good_once() {
    requires_root!();
    let (mut node, id) = node_with_container("").await;
    let target = node.exec_url(&id, "true", PLAIN).await;
    let guess = Target { url: target.url.replace("/exec/", "/attach/"), ..target.clone() };
    let other = node.exec_url(&id, "true", PLAIN).await;
    assert_eq!(status_of(&guess, &UPGRADE).await, 404);
    assert_eq!(status_of(&other, &[]).await, 400);
    assert_eq!(status_of(&other, &UPGRADE).await, 404);
    let target = node.exec_url(&id, "true", PLAIN).await;
    assert_eq!(Remote::open(&target, FULL[0], PLAIN).await.finish().await.code(), 0);
    assert_eq!(status_of(&target, &UPGRADE).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_limited_and_idle_ones_end() {
    requires_root!();
    let (mut node, id) = node_with_container("max_sessions = 2\nidle_timeout = 6").await;
    let mut remotes = Vec::new();
    for protocol in [FULL[0], FULL[2]] {
        let target = node.exec_url(&id, "echo ready; sleep 1000", INPUT).await;
        let mut remote = Remote::open(&target, protocol, INPUT).await;
        remote.until("ready").await;
        remotes.push(remote);
    }
    let target = node.exec_url(&id, "true", PLAIN).await;
    assert_eq!(status_of(&target, &UPGRADE).await, 503, "a third session is refused");
    // Nothing is said: both end, and make room.
    for remote in remotes {
        let mut receiver = remote.receiver;
        while receiver.next().await.is_some() {}
    }
    let finished = Remote::open(&target, FULL[0], PLAIN).await.finish().await;
    assert_eq!(finished.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_its_streams_is_let_go() {
    requires_root!();
    let (mut node, id) = node_with_container("creation_timeout = 1").await;
    let target = node.exec_url(&id, "true", PLAIN).await;
    let mut stream = target.connect().await;
    assert_eq!(target.upgrade(&mut stream, &UPGRADE).await.0, 101);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    // The last frame is GOAWAY: version 3, type 7.
    assert!(rest.windows(4).any(|bytes| bytes == [0x80, 3, 0, 7]), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_daemon_is_told() {
    requires_root!();
    for protocol in [FULL[0], FULL[2], Protocol::WebSocket("v4.channel.k8s.io")] {
        let (mut node, id) = node_with_container("").await;
        let target = node.exec_url(&id, "echo ready; sleep 1000", INPUT).await;
        let mut remote = Remote::open(&target, protocol, INPUT).await;
        remote.until("ready").await;
        let pod = node.containers(Default::default()).await[0].pod_sandbox_id.clone();
        let (_sender, mut receiver) = ports::session(&node.ports_url(&pod, &[]).await).await;
        let pid = rustix::process::Pid::from_raw(node.daemon_pid() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(remote.next().await, None, "{protocol:?}");
        while receiver.next().await.is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_keeps_what_is_said() {
    requires_root!();
    let files = tempfile::tempdir().unwrap();
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
    let made = Command::new("sh").args(["-c", script]).current_dir(&files).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = |name: &str| files.path().join(name).display().to_string();
    let config =
        format!("tls_cert_file = {:?}\ntls_key_file = {:?}", path("cert.pem"), path("key.pem"));
    let (mut node, id) = node_with_container(&config).await;
    let target = node.exec_url(&id, "echo secret", PLAIN).await;
    assert!(target.url.starts_with("https://"), "{}", target.url);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, target.connect().await).await.unwrap();
    let remote = spdy::remote(&target, stream, "v4.channel.k8s.io", PLAIN, false).await;
    assert_eq!(remote.finish().await.text(), "secret\n");
    // Without TLS there is nothing to be had.
    assert_eq!(status_of(&target, &UPGRADE).await, 0);

    let exec = criquet_exec(&node, &id, &[]);
    assert_eq!(exec.status.code(), Some(7), "{exec:?}");
    assert_eq!(String::from_utf8_lossy(&exec.stdout), "secret\n");
    // Another server that has got hold of the port is found out.
    let other = script.replace("cert.pem", "other.pem").replace("key.pem", "other-key.pem");
    assert!(
        Command::new("sh").args(["-c", &other]).current_dir(&files).status().unwrap().success()
    );
    let config = std::fs::read_to_string(node.path("config.toml")).unwrap();
    let changed = config.replace("cert.pem", "other.pem").replace("key.pem", "other-key.pem");
    std::fs::write(node.path("config.toml"), changed).unwrap();
    let exec = criquet_exec(&node, &id, &[]);
    let said = String::from_utf8_lossy(&exec.stderr);
    assert!(said.contains("does not show the certificate") && exec.stdout.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_shows_its_certificate_where_it_is_asked_for_one() {
    requires_root!();
    let files = tempfile::tempdir().unwrap();
    let script = "for name in server client; do \
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -keyout $name.key -out $name.pem -days 2 -subj /CN=$name \
        -addext basicConstraints=critical,CA:FALSE || exit 1; done";
    let made = Command::new("sh").args(["-c", script]).current_dir(&files).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = |name: &str| files.path().join(name).display().to_string();
    let config = format!(
        "tls_cert_file = {:?}\ntls_key_file = {:?}\ntls_client_ca_file = {:?}",
        path("server.pem"),
        path("server.key"),
        path("client.pem")
    );
    let (node, id) = node_with_container(&config).await;
    let refused = criquet_exec(&node, &id, &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("--client-cert"), "{said}");
    let (certificate, key) = (path("client.pem"), path("client.key"));
    let own = ["--client-cert", &certificate, "--client-key", &key];
    let exec = criquet_exec(&node, &id, &own);
    assert_eq!(exec.status.code(), Some(7), "{exec:?}");
    assert_eq!(String::from_utf8_lossy(&exec.stdout), "secret\n");
}

/// A command that says something and ends with 7.
fn criquet_exec(node: &Node, id: &str, arguments: &[&str]) -> std::process::Output {
    let mut command = node.inside(env!("CARGO_BIN_EXE_criquet"));
    command.arg("exec").arg("--config").arg(node.path("config.toml")).args(arguments);
    command.args([id, "--", "sh", "-c", "echo secret; exit 7"]).output().unwrap()
}
