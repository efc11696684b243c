//! Images by the command line and the CRI, and a registry that others have made.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use common::{Node, image, requests};
use criquet::cri::v1;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The credentials `node:secret` as docker-registry wants them.
const PASSWORDS: &str = "node:$2y$04$n.yADeb/OZNmObtH4J9ELOAfhtrvbou0LreFPbD64wzslS3eIPrhK\n";
/// The same for a request.
const BASIC: &str = "Basic bm9kZTpzZWNyZXQ=";
const REGISTRY: &str = "127.0.0.1:5000";

fn command(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criquet"));
    command.arg("image").args(arguments).arg("--config").arg(node.path("config.toml"));
    command
}

fn run(node: &Node, arguments: &[&str]) -> Output {
    command(node, arguments).stdin(Stdio::null()).output().unwrap()
}

/// What a command prints that succeeds.
#[track_caller]
fn printed(node: &Node, arguments: &[&str]) -> String {
    let output = run(node, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says that fails.
#[track_caller]
fn refused(node: &Node, arguments: &[&str]) -> String {
    let output = run(node, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_on_the_images_of_a_daemon() {
    requires_root!();
    let mut node = Node::start().await;
    let id = printed(&node, &["ls", "-q"]).trim().to_owned();
    let short = &id["sha256:".len()..][..12];
    let list = printed(&node, &["ls"]);
    assert!(list.starts_with("IMAGE "), "{list}");
    assert!(list.contains(&format!("docker.io/library/test   1     {short}")), "{list}");
    let json: Value = serde_json::from_str(&printed(&node, &["ls", "-o", "json"])).unwrap();
    assert_eq!(json["images"][0]["repoTags"][0], image::NAME);
    let json: Value = serde_json::from_str(&printed(&node, &["inspect", "test:1"])).unwrap();
    assert_eq!(json["status"]["id"], id.as_str());
    assert!(json["info"]["imageSpec"]["config"].is_object(), "{json}");
    assert!(refused(&node, &["inspect", "unknown"]).contains("no such image"));

    let archive = node.path("export.tar");
    printed(&node, &["export", short, "-o", archive.to_str().unwrap()]);
    let pod = node.pod("user").await;
    let container = node.launch(&pod, requests::script("user", "sleep 100000")).await;
    let error = refused(&node, &["rm", "test:1"]);
    assert!(error.contains(&container), "{error}");
    let removed = printed(&node, &["rm", "--force", "test:1", "unknown"]);
    assert_eq!(removed, format!("Untagged: {}\nDeleted: {id}\n", image::NAME));
    assert_eq!(printed(&node, &["ls", "-q"]), "");

    let mut import = command(&node, &["import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(&fs::read(&archive).unwrap()).unwrap();
    let output = import.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{id} {}\n", image::NAME));
    assert_eq!(printed(&node, &["prune", "--all"]), "", "a container uses it");
    assert!(printed(&node, &["metrics"]).contains("\ncriquet_image_images 1\n"));
    let error = refused(&node, &["export", "unknown", "-o", archive.to_str().unwrap()]);
    assert!(error.contains("unknown"), "{error}");
    assert!(!archive.exists(), "what is not whole does not stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_has_broken_is_found_and_named() {
    requires_root!();
    let node = Node::start().await;
    assert_eq!(printed(&node, &["verify"]), "All images are whole.\n");
    let layers = node.path("root/images/layers");
    let layer = fs::read_dir(layers).unwrap().next().unwrap().unwrap().path();
    fs::write(layer.join("etc/secret"), "broken!").unwrap();
    let said = printed(&node, &["verify"]);
    assert!(said.starts_with("Removed: sha256:") && said.contains(image::NAME), "{said}");
    assert_eq!(printed(&node, &["ls", "-q"]), "");
    image::import(node.directory.path());
    assert_eq!(printed(&node, &["verify"]), "All images are whole.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_takes_every_name_of_an_image() {
    requires_root!();
    let node = Node::start().await;
    let node = node.with_images(&[("other", &[("home/user", image::Instead::Nothing)])]).await;
    let mut images = node.images.clone();
    let listed = images.list_images(v1::ListImagesRequest::default()).await.unwrap().into_inner();
    let request = v1::StreamImagesRequest::default();
    let mut stream = images.stream_images(request).await.unwrap().into_inner();
    let mut streamed = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        streamed.extend(message.images);
    }
    assert_eq!(streamed, listed.images);
    assert_eq!(streamed.len(), 2);
    for image in listed.images {
        let hex = image.id.strip_prefix("sha256:").unwrap();
        for name in [image.repo_tags[0].as_str(), &image.id, hex, &hex[..8], &image.id[..20]] {
            let spec = || Some(v1::ImageSpec { image: name.to_owned(), ..Default::default() });
            let request = v1::ImageStatusRequest { image: spec(), verbose: false };
            let found = images.image_status(request).await.unwrap().into_inner().image;
            assert_eq!(found.as_ref(), Some(&image), "{name}");
            let filter = Some(v1::ImageFilter { image: spec() });
            let request = v1::ListImagesRequest { filter };
            let found = images.list_images(request).await.unwrap().into_inner().images;
            assert_eq!(found, std::slice::from_ref(&image), "{name}");
        }
        let spec = Some(v1::ImageSpec { image: hex[..8].to_owned(), ..Default::default() });
        images.remove_image(v1::RemoveImageRequest { image: spec }).await.unwrap();
    }
    let listed = images.list_images(v1::ListImagesRequest::default()).await.unwrap().into_inner();
    assert!(listed.images.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_others_have_made() {
    requires_root!();
    let Some(programs) = Programs::find() else { return };
    let mut node = Node::start().await;
    let registry = Registry::start(&node, &programs.registry);
    let archive = node.path("export.tar");
    printed(&node, &["export", "test:1", "-o", archive.to_str().unwrap()]);
    let id = printed(&node, &["ls", "-q"]);
    registry.copy(&node, &format!("docker-archive:{}", archive.display()), "test");
    registry.copy(&node, &format!("oci-archive:{}:{}", archive.display(), image::NAME), "oci");
    registry.copy(&node, &format!("oci:{}:1", made_by_umoci(&node).display()), "large");
    printed(&node, &["rm", "test:1"]);

    let name = format!("{REGISTRY}/test:1");
    trust(&node, "");
    let error = refused(&node, &["pull", &name, "--creds", "node:secret"]);
    assert!(error.contains("cannot be reached"), "an unknown certificate: {error}");
    trust(&node, "ca = \"own.pem\"\n");
    for wrong in [&["pull", &name][..], &["pull", &name, "--creds", "node:wrong"]] {
        let error = refused(&node, wrong);
        assert!(error.contains("without valid credentials"), "{error}");
    }
    let pulled = printed(&node, &["pull", &name, "--creds", "node:secret", "--quiet"]);
    assert_eq!(pulled, id, "an export keeps the id");
    let large = format!("{REGISTRY}/large:1");
    let output = run(&node, &["pull", &large, "--creds", "node:secret"]);
    let lines = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{lines}");
    // A pull that is over before anybody looks has no lines.
    assert!(lines.is_empty() || lines.contains(" (10.5MB)"), "{lines}");
    let metrics = printed(&node, &["metrics"]);
    assert!(metrics.contains("criquet_image_pulls_total{result=\"success\"} 2"), "{metrics}");

    reload(&mut node, &format!("blocked = [\"{REGISTRY}/large\"]\n"), "registry.blocked");
    let error = refused(&node, &["pull", &large, "--creds", "node:secret"]);
    assert!(error.contains("blocked"), "{error}");
    let oci = format!("{REGISTRY}/oci:1");
    assert_eq!(printed(&node, &["pull", &oci, "--creds", "node:secret"]), id);
    drop(registry);
    let spec = Some(v1::ImageSpec { image: oci, ..Default::default() });
    let request = v1::PullImageRequest { image: spec, ..Default::default() };
    let status = node.images.pull_image(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unknown);
    assert!(status.message().starts_with("RegistryUnavailable: "), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_the_kubelet_has_begun_is_seen_and_joined() {
    requires_root!();
    let Some(programs) = Programs::find() else { return };
    let node = Node::start().await;
    let registry = Registry::start(&node, &programs.registry);
    registry.copy(&node, &format!("oci:{}:1", made_by_umoci(&node).display()), "large");
    trust(&node, &format!("skip_verify = true\n[header]\nauthorization = \"{BASIC}\"\n"));
    registry.signal(Signal::STOP);
    let name = format!("{REGISTRY}/large:1");
    let mut images = node.images.clone();
    let request = v1::PullImageRequest {
        image: Some(v1::ImageSpec { image: name.clone(), ..Default::default() }),
        ..Default::default()
    };
    let pulling = tokio::spawn(async move { images.pull_image(request).await });
    until("the pull is listed", || printed(&node, &["pulls"]).contains(&name));
    let joining = command(&node, &["pull", &name]).stdout(Stdio::piped()).spawn().unwrap();
    registry.signal(Signal::CONT);
    let id = pulling.await.unwrap().unwrap().into_inner().image_ref;
    let joined = joining.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(joined.stdout).unwrap().trim(), id);
    assert_eq!(printed(&node, &["pulls"]).lines().count(), 1, "only the headings");
    let metrics = printed(&node, &["metrics"]);
    assert!(metrics.contains("criquet_image_layers_total{origin=\"fetched\"} 1\n"), "{metrics}");
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited in vain: {what}");
}

/// Says how to speak to the registry, in lines of its `hosts.toml`.
fn trust(node: &Node, lines: &str) {
    let certificates = node.path("certs.d").join(REGISTRY);
    fs::create_dir_all(&certificates).unwrap();
    fs::copy(node.path("registry/ca.crt"), certificates.join("own.pem")).unwrap();
    let text = format!("server = \"https://{REGISTRY}\"\n{lines}");
    fs::write(certificates.join("hosts.toml"), text).unwrap();
}

/// Adds lines to the end of the configuration, and waits until the daemon says that it has
/// read them.
fn reload(node: &mut Node, lines: &str, said: &str) {
    let mut file = fs::File::options().append(true).open(node.path("config.toml")).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    signal(node.daemon_pid(), Signal::HUP);
    until(said, || node.log().contains(said));
}

fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(process as i32).unwrap();
    kill_process(process, signal).unwrap();
}

/// An OCI layout with one large file, which no compression makes small.
fn made_by_umoci(node: &Node) -> PathBuf {
    let layout = node.path("layout");
    let file = node.path("noise");
    let mut noise = vec![0; 10_480_000];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut noise))
        .unwrap();
    fs::write(&file, noise).unwrap();
    let name = format!("{}:1", layout.display());
    succeed(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    succeed(Command::new("umoci").args(["new", "--image", &name]));
    succeed(Command::new("umoci").args(["insert", "--image", &name]).arg(&file).arg("/noise"));
    layout
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Programs {
    registry: PathBuf,
}

impl Programs {
    /// Says why the test does not run where something is missing.
    fn find() -> Option<Self> {
        let registry = std::env::var_os("CRIQUET_TEST_DOCKER_REGISTRY")
            .map_or("/usr/bin/docker-registry".into(), PathBuf::from);
        for program in [&registry, Path::new("/usr/bin/skopeo"), Path::new("/usr/bin/umoci")] {
            if !program.exists() {
                eprintln!("SKIPPED: {} is not there", program.display());
                return None;
            }
        }
        Some(Self { registry })
    }
}

/// A docker-registry in the node's network namespace, with TLS and passwords.
struct Registry(Child);

impl Registry {
    fn start(node: &Node, program: &Path) -> Self {
        let directory = node.path("registry");
        fs::create_dir(&directory).unwrap();
        let place = directory.display();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {place}/data}}}}\n\
             http: {{addr: \"{REGISTRY}\", tls: {{certificate: {place}/ca.crt, key: {place}/key}}}}\n\
             auth: {{htpasswd: {{realm: test, path: {place}/passwords}}}}\n"
        );
        for (name, text) in [
            ("ca.crt", certificate.pem()),
            ("key", key.serialize_pem()),
            ("passwords", PASSWORDS.to_owned()),
            ("config.yml", config),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        let mut registry = node.inside(program.to_str().unwrap());
        let mut child = registry
            .arg("serve")
            .arg(directory.join("config.yml"))
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens =
            lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(listens, "the registry does not listen");
        // What it says later is of no interest, but must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        Self(child)
    }

    fn signal(&self, name: Signal) {
        signal(self.0.id(), name);
    }

    /// Copies an image with skopeo to `NAME:1` of this registry.
    fn copy(&self, node: &Node, source: &str, name: &str) {
        let mut skopeo = node.inside("skopeo");
        skopeo.args([
            "--insecure-policy",
            "copy",
            "--dest-creds",
            "node:secret",
            "--dest-cert-dir",
        ]);
        succeed(
            skopeo
                .arg(node.path("registry"))
                .arg(source)
                .arg(format!("docker://{REGISTRY}/{name}:1")),
        );
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
