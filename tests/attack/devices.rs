//! Devices that a container makes itself.

use crate::common::{Node, requests};

#[tokio::test]
async fn the_console_of_the_node_is_nobodys() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("devices").await;
    let script = "open() { mknod /root/$1 c $2 $3 && (: < /root/$1) 2>&1 | sed 's/.*: //'; }
        echo console: $(open console 5 1); echo tun: $(open tun 10 200)
        echo kmsg: $(open kmsg 1 11); echo mem: $(open mem 1 1); echo loop: $(open loop 7 0)";
    let (_, text) = node.result_of(&pod, requests::script("c", script)).await;
    let lines: Vec<_> = text.lines().collect();
    let refused = "Operation not permitted";
    assert_eq!(lines[0], format!("console: {refused}"));
    // The others open it, and users rely on that; a node without the driver has no such device.
    assert!(["tun:", "tun: No such device"].contains(&lines[1]), "{text}");
    for line in &lines[2..] {
        assert!(line.ends_with(refused), "{text}");
    }
}
