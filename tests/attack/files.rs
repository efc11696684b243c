//! Files of the node that containers write to.

use std::fs;

use crate::common::{Node, leaks, requests};

#[tokio::test]
async fn the_files_of_a_pod_cannot_fill_the_node() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("full").await;
    let show = "for f in hostname hosts resolv.conf; do
            dd if=/dev/zero bs=1M count=9 2>/dev/null >> /etc/$f && echo $f took it all
        done
        grep -c -E ' /etc/(hostname|hosts|resolv.conf) .*nosuid,nodev,noexec' /proc/self/mountinfo
        grep -c ' /dev/shm .*nosuid,nodev,noexec' /proc/self/mountinfo";
    let (_, text) = node.result_of(&pod, requests::script("c", show)).await;
    assert_eq!(text, "3\n1");
    let files = node.path("state/pods").join(&pod).join("files");
    let written: u64 =
        fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(written <= 4 << 20, "{written} bytes of the node's memory");
    // Nothing but what one of these files may hold is shared with the next pod.
    let next = node.pod("next").await;
    let (_, text) = node.result_of(&next, requests::script("next", "cat /etc/hostname")).await;
    assert_eq!(text, "next");
    for pod in [pod, next] {
        node.remove_pod(&pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}
