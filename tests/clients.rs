//! Clients of other libraries than the kubelet's and ours.

mod common;

use std::{env, process::Command};

use common::Node;

/// Calls of each kind, several on one connection, so that headers are in tables by then.
const SCRIPT: &str = r#"
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    grpc.channel_ready_future(channel).result(timeout=30)
    service = "/runtime.v1.RuntimeService/"
    for _ in range(3):
        answer = channel.unary_unary(service + "Version")(b"", timeout=30)
        assert b"criquet" in answer, answer
    pods = list(channel.unary_stream(service + "StreamPodSandboxes")(b"", timeout=30))
    assert pods == [], pods
    try:
        channel.unary_unary(service + "PodSandboxStatus")(b"\n\x04none", timeout=30)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    else:
        raise AssertionError("there is no such pod")
print("served")
"#;

#[tokio::test]
async fn a_client_on_the_c_core_is_served_over_an_absolute_path() {
    requires_root!();
    let Some(python) = env::var_os("CRIQUET_TEST_GRPCIO") else {
        eprintln!("SKIPPED: Python's grpcio is not here; scripts/test.sh installs it");
        return;
    };
    let node = Node::start().await;
    let socket = node.path("criquet.sock").display().to_string();
    // Its default authority is the path, percent-encoded; the second form has one more slash.
    for target in [format!("unix:{socket}"), format!("unix://{socket}")] {
        let client = Command::new(&python).args(["-c", SCRIPT, &target]).output().unwrap();
        let words = String::from_utf8_lossy(&client.stderr);
        assert_eq!(client.stdout, b"served\n", "{target}: {words}");
    }
}
