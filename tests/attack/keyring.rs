//! Keys that one container finds and another one has put there.

use crate::{
    common::{Node, requests},
    python,
};
use criquet::cri::v1;

/// Adds a key to the session keyring, or looks for it there.
const KEYS: &str = r#"
import ctypes, os, platform, sys
call = ctypes.CDLL(None, use_errno=True).syscall
add, keyctl = (248, 250) if platform.machine() == "x86_64" else (217, 219)
session = ctypes.c_long(-3)
def put(): return call(add, b"user", b"attack", b"secret", ctypes.c_long(6), session)
def get(): return call(keyctl, 10, session, b"user", b"attack", 0)
"#;

fn with_host(name: &str, node: &Node) -> v1::ContainerConfig {
    let mut config = requests::script(name, "sleep 1000");
    std::fs::write(node.path("keys.py"), KEYS).unwrap();
    config.mounts.push(v1::Mount {
        container_path: "/host".to_owned(),
        host_path: "/".to_owned(),
        readonly: true,
        ..Default::default()
    });
    config
}

#[tokio::test]
async fn session_keyrings_are_not_shared_by_containers() {
    requires_root!();
    let mut node = Node::start().await;
    // The daemon has a session keyring with a key, as systemd gives one to a service.
    node.kill_daemon();
    let code = format!(
        "{KEYS}\nassert call(keyctl, 1, None) > 0 and put() > 0\nos.execvp(sys.argv[1], sys.argv[1:])"
    );
    node.start_daemon_through(&[&python(), "-c", &code]).await;
    let (one, other) = (node.pod("one").await, node.pod("other").await);
    let mut ids = Vec::new();
    for (pod, name) in [(&one, "a"), (&one, "b"), (&other, "c")] {
        let config = with_host(name, &node);
        ids.push(node.launch(pod, config).await);
    }
    let run = |what: &str| {
        let file = node.path("keys.py").display().to_string();
        format!(
            "busybox chroot /host {} -c 'exec(open(\"{file}\").read()); print({what}() > 0)'",
            python()
        )
    };
    let (get, put) = (run("get"), run("put"));
    for id in &ids {
        assert_eq!(node.output(id, &get).await, "False", "the daemon's key is seen");
    }
    assert_eq!(node.output(&ids[0], &put).await, "True");
    assert_eq!(node.output(&ids[0], &get).await, "True", "an exec has the container's keyring");
    for id in &ids[1..] {
        assert_eq!(node.output(id, &get).await, "False", "another container's key is seen");
    }
}
