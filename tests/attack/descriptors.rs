//! What a container has open when its program starts.

use std::{fs, os::unix::fs::MetadataExt};

use crate::common::{Node, requests};

/// The filesystem of each standard stream and of the container's own null device.
const SHOW: &str = "for f in /proc/self/fd/0 /dev/null; do stat -L -c '%d %t:%T' $f; done";

/// A mode or owner that a container gives to its standard input must not be the node's.
#[tokio::test]
async fn the_null_device_is_the_containers_own() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("null").await;
    let of_host = format!("{} 1:3", fs::metadata("/dev/null").unwrap().dev());
    let (_, of_start) = node.result_of(&pod, requests::script("start", SHOW)).await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let of_exec = node.output(&id, SHOW).await;
    for shown in [of_start, of_exec] {
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 2, "{shown}");
        assert_eq!(lines[0], lines[1], "standard input is not the container's null device");
        assert_ne!(lines[0], of_host, "standard input is a file of the host");
    }
    // What a container puts at the place of its null device is nothing to its execs.
    node.output(&id, "rm /dev/null && busybox mkfifo /dev/null").await;
    let stream = node.output(&id, "stat -L -c '%t:%T' /proc/self/fd/0; cat").await;
    assert_eq!(stream, "1:3");
}

/// For a moment a child of the monitor has its descriptors, inside of a container.
#[tokio::test]
async fn a_monitor_holds_no_null_device_of_the_host() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("monitor").await;
    node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let monitor = node.monitor_of(&pod).as_raw_nonzero();
    let entries = fs::read_dir(format!("/proc/{monitor}/fd")).unwrap();
    let targets = entries.flatten().map(|e| (fs::read_link(e.path()).unwrap(), e.path()));
    let devices: Vec<_> = targets.filter(|(target, _)| target.starts_with("/dev")).collect();
    assert!(devices.is_empty(), "{devices:?}");
}
