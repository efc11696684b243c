//! Images that are mounted into containers as volumes.

mod common;

use common::{
    Node,
    image::{self, Instead},
    leaks, requests,
};
use criquet::cri::v1;
use tonic::Code;

const DATA: &str = "docker.io/library/data:1";

async fn node() -> Node {
    let node = Node::start().await;
    let content = [
        ("inside", Instead::Link("/etc")),
        ("out", Instead::Link("../../../../../etc")),
        ("dangling", Instead::Link("/nowhere")),
        ("data", Instead::Directory),
    ];
    image::import_other(node.directory.path(), "data", &content);
    node
}

fn volume(path: &str, sub_path: &str) -> v1::Mount {
    v1::Mount {
        container_path: path.to_owned(),
        readonly: true,
        image: Some(v1::ImageSpec { image: DATA.to_owned(), ..Default::default() }),
        image_sub_path: sub_path.to_owned(),
        ..Default::default()
    }
}

fn with(name: &str, mounts: Vec<v1::Mount>) -> v1::ContainerConfig {
    v1::ContainerConfig { mounts, ..requests::script(name, "sleep 1000") }
}

async fn image_id(node: &mut Node) -> String {
    let image = Some(v1::ImageSpec { image: DATA.to_owned(), ..Default::default() });
    let request = v1::ImageStatusRequest { image, verbose: false };
    node.images.image_status(request).await.unwrap().into_inner().image.unwrap().id
}

#[tokio::test]
async fn an_image_is_read_and_executed_and_never_written() {
    requires_root!();
    let mut node = node().await;
    let pod = node.pod("p").await;
    let id = node.launch(&pod, with("c", vec![volume("/volume", "")])).await;
    assert_eq!(node.output(&id, "/volume/bin/busybox cat /volume/etc/secret").await, "secret");
    let error = node.exec(&id, "touch /volume/x", 10).await.unwrap();
    assert!(String::from_utf8_lossy(&error.stderr).contains("Read-only"), "{error:?}");
    let options = node.output(&id, "grep ' /volume ' /proc/self/mounts").await;
    for option in ["ro", "nosuid", "nodev"] {
        assert!(options.split([' ', ',']).any(|other| other == option), "{options}");
    }
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains("/volume"), "mounted on the host");

    let expected = image_id(&mut node).await;
    let mounts = node.status(&id).await.unwrap().mounts;
    let image = mounts[0].image.as_ref().unwrap();
    assert_eq!((image.image.as_str(), image.image_ref.as_str()), (DATA, expected.as_str()));
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_part_of_an_image_is_mounted_alone() {
    requires_root!();
    let mut node = node().await;
    let pod = node.pod("p").await;
    let mounts = vec![
        volume("/directory", "etc"),
        volume("/file", "etc/secret"),
        // Links are those of the image.
        volume("/link", "inside"),
        volume("/out", "out"),
    ];
    let id = node.launch(&pod, with("c", mounts)).await;
    for path in ["/directory/secret", "/file", "/link/secret", "/out/secret"] {
        assert_eq!(node.output(&id, &format!("cat {path}")).await, "secret", "{path}");
    }
    // Nothing of the whole overlay is left below the part.
    assert_eq!(node.output(&id, "grep -c overlay /proc/self/mounts").await, "5");
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_mounted_is_refused_when_the_container_is_made() {
    requires_root!();
    let mut node = node().await;
    let pod = node.pod("p").await;
    let other = |image: &str| v1::Mount {
        image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
        ..volume("/v", "")
    };
    let cases = [
        (v1::Mount { readonly: false, ..volume("/v", "") }, Code::InvalidArgument, "readonly"),
        (
            v1::Mount { host_path: "/tmp".to_owned(), ..volume("/v", "") },
            Code::InvalidArgument,
            "host_path",
        ),
        (v1::Mount { propagation: 1, ..volume("/v", "") }, Code::InvalidArgument, "propagation"),
        (volume("/v", "../etc"), Code::InvalidArgument, "image_sub_path"),
        (volume("/v", "/etc"), Code::InvalidArgument, "image_sub_path"),
        (volume("/v", "nothing/here"), Code::NotFound, "nothing/here"),
        (volume("/v", "dangling"), Code::NotFound, "dangling"),
        (other("docker.io/library/absent:1"), Code::NotFound, "pull it"),
    ];
    for (mount, code, text) in cases {
        let error = node.create(&pod, with("c", vec![mount])).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().starts_with("ImageVolumeMountFailed"), "{error}");
        assert!(error.message().contains(text), "{error}");
    }
    let no_image = v1::Mount { image: None, ..volume("/v", "etc") };
    let error = node.create(&pod, with("c", vec![no_image])).await.unwrap_err();
    assert!(error.message().contains("image_sub_path"), "{error}");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_volume_outlives_its_image_and_the_daemon() {
    requires_root!();
    let mut node = node().await;
    let pod = node.pod("p").await;
    let first = node.launch(&pod, with("first", vec![volume("/v", "etc")])).await;
    let second = node.create(&pod, with("second", vec![volume("/v", "etc")])).await.unwrap();
    let image = Some(v1::ImageSpec { image: DATA.to_owned(), ..Default::default() });
    node.images.remove_image(v1::RemoveImageRequest { image }).await.unwrap();
    node.kill_daemon();
    node.start_daemon().await;
    // One that was made before can start still.
    node.start_container(&second).await.unwrap();
    for id in [&first, &second] {
        assert_eq!(node.output(id, "cat /v/secret").await, "secret");
    }
    let used = |node: &Node| std::fs::read_dir(node.path("root/images/layers")).unwrap().count();
    let before = used(&node);
    node.remove_pod(&pod).await.unwrap();
    assert_eq!(used(&node), before - 1, "the layer goes with the last who had it");
}
