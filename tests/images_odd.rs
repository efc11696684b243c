//! Images of strangers in a daemon: lists that have room for them, and roots that are theirs.

mod common;

use std::{fs, path::Path, process::Command};

use common::{
    Node,
    image::{self, Tar},
    requests,
};
use criquet::cri::v1;
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An OCI layout of one image.
fn layout(name: &str, config: Value, annotations: &Value, layer: &[u8]) -> Vec<u8> {
    let mut tar = Tar::default();
    let mut blob = |media_type: &str, bytes: &[u8]| {
        let digest = digest(bytes);
        tar.add(
            &digest.replace(':', "/").replace("sha256/", "blobs/sha256/"),
            b'0',
            0o644,
            bytes,
            "",
        );
        let media_type = format!("application/vnd.oci.image.{media_type}");
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let rootfs = json!({ "type": "layers", "diff_ids": [digest(layer)] });
    let config = json!({
        "architecture": architecture, "os": "linux", "config": config, "rootfs": rootfs,
    });
    let manifest = json!({
        "schemaVersion": 2,
        "config": blob("config.v1+json", config.to_string().as_bytes()),
        "layers": [blob("layer.v1.tar", layer)],
        "annotations": annotations,
    });
    let mut entry = blob("manifest.v1+json", manifest.to_string().as_bytes());
    entry["annotations"] = json!({ "io.containerd.image.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    tar.add("index.json", b'0', 0o644, index.to_string().as_bytes(), "");
    tar.finish()
}

fn import(node: &Node, archive: &[u8]) {
    let path = node.path("odd.tar");
    fs::write(&path, archive).unwrap();
    let output = command(node).args(["image", "import"]).arg(&path).args(config(node)).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn command(_: &Node) -> Command {
    Command::new(env!("CARGO_BIN_EXE_criquet"))
}

fn config(node: &Node) -> [std::ffi::OsString; 2] {
    let path: &Path = &node.path("config.toml");
    ["--config".into(), path.into()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_room_for_images_with_megabytes_of_words() {
    requires_root!();
    let mut node = Node::start().await;
    let layer = Tar::default().finish();
    let words = |number: usize, length: usize| format!("{number}{}", "w".repeat(length));
    for number in 0..6 {
        let config = json!({
            "User": words(number, 1_000_000),
            "Labels": { "l": words(number, 4_000_000) },
        });
        let annotations = json!({ "a": words(number, 3_900_000) });
        import(&node, &layout(&format!("odd.example/a:{number}"), config, &annotations, &layer));
    }
    let list = node.images.list_images(v1::ListImagesRequest::default()).await.unwrap();
    assert_eq!(list.get_ref().images.len(), 7);
    let length = list.get_ref().encoded_len();
    assert!(length < 7 * 1024, "{length} bytes");
    let image = Some(v1::ImageSpec { image: "odd.example/a:3".to_owned(), ..Default::default() });
    let request = v1::ImageStatusRequest { image, verbose: true };
    // As much as the kubelet takes.
    let mut images = node.images.clone().max_decoding_message_size(16 << 20);
    let status = images.image_status(request).await.unwrap();
    let length = status.get_ref().encoded_len();
    assert!(length < 16 << 20, "{length} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_a_container_belongs_to_whom_the_image_says() {
    requires_root!();
    let mut node = Node::start().await;
    let mut root = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| root[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "./");
    put(100, "0000775");
    put(108, "0001750");
    put(116, "0001751");
    put(124, "00000000000");
    put(136, "00000000000");
    put(148, "        ");
    put(156, "5");
    put(257, "ustar\x0000");
    let sum: u32 = root.iter().map(|byte| u32::from(*byte)).sum();
    root[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let layer = [&root[..], &image::layer(&[])].concat();
    let config = json!({ "Env": ["PATH=/bin"], "User": "1000:1001" });
    import(&node, &layout("odd.example/rooted:1", config, &json!({}), &layer));

    let pod = node.pod("rooted").await;
    let script = "stat -c '%a %u %g' /; touch /mine && echo writable";
    let mut container = requests::script("rooted", &format!("{script}; sleep 100000"));
    container.image =
        Some(v1::ImageSpec { image: "odd.example/rooted:1".to_owned(), ..Default::default() });
    let id = node.launch(&pod, container).await;
    assert_eq!(node.output(&id, script).await, "775 1000 1001\nwritable");
}
