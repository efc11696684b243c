//! Commands, and when they end.

use std::time::Duration;

use crate::{
    pod::{Pod, eventually, wait_until},
    requires_root,
};

/// The processes of a container, by what they execute.
fn executing(pod: &Pod, words: &str) -> usize {
    let of = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mine = |pid: &str| {
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroups.contains(&pod.cgroup)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| String::from_utf8_lossy(&of(pid)).replace('\0', " ").contains(words))
        .filter(|pid| mine(pid))
        .count()
}

#[tokio::test]
async fn a_command_whose_time_is_over_ends_with_all_that_it_started() {
    requires_root!();
    let pod = Pod::start().await;
    pod.run("c", "sleep 1000").await.unwrap();
    let script = "(sleep 2001 &) ; sleep 2001";
    let exec = pod.exec("c", script, Some(Duration::from_millis(300))).await.unwrap();
    let exit = exec.exit.await.unwrap();
    assert!(exit.timed_out);
    assert_eq!(exit.code, 137);
    eventually(|| executing(&pod, "sleep 2001") == 0).await;
    // The container and other commands have nothing of it.
    let exec = pod.exec("c", "exit 7", Some(Duration::from_secs(1000))).await.unwrap();
    let exit = exec.exit.await.unwrap();
    assert_eq!((exit.code, exit.timed_out), (7, false));
    assert!(pod.state_of("c").await.unwrap().exited.is_none());
}

#[test]
fn a_commands_time_is_over_though_no_daemon_is_there() {
    requires_root!();
    let daemon = || tokio::runtime::Runtime::new().unwrap();
    let first = daemon();
    let mut pod = first.block_on(async {
        let pod = Pod::start().await;
        pod.run("c", "sleep 1000").await.unwrap();
        pod.exec("c", "sleep 2002", Some(Duration::from_millis(500))).await.unwrap();
        pod
    });
    // With it go its connections.
    drop(first);
    wait_until(|| executing(&pod, "sleep 2002") == 0);
    daemon().block_on(async {
        pod.connect_anew();
        assert!(pod.state_of("c").await.unwrap().exited.is_none());
    });
}
