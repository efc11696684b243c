//! Whoever can reach a monitor's socket and is no daemon.

use std::os::fd::{AsFd, OwnedFd};

use criquet::{
    monitor::{client::Monitor, v1},
    sys::socket,
};
use prost::Message as _;
use rustix::net::{Shutdown, shutdown};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    pod::{Pod, wait_until},
    requires_root,
};

/// Numbers that look like chance, the same in every run (xorshift).
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn stranger(pod: &Pod) -> OwnedFd {
    let mut connected = None;
    wait_until(|| {
        connected = socket::connect_to(&pod.socket()).ok();
        connected.is_some()
    });
    connected.unwrap()
}

/// Whether the monitor has closed a connection.
fn is_closed(stranger: &OwnedFd) -> bool {
    let mut buffer = [0; 1 << 15];
    loop {
        match socket::receive(stranger.as_fd(), &mut buffer) {
            Ok((0, _)) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

fn resident(pod: &Pod) -> u64 {
    let status = format!("/proc/{}/status", pod.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(pod: &Pod) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", pod.pid().as_raw_nonzero())).unwrap().count()
}

#[tokio::test]
async fn what_is_no_request_closes_its_connection_and_no_other() {
    requires_root!();
    let pod = Pod::start().await;
    pod.run("c", "sleep 1000").await.unwrap();
    for seed in 0..200 {
        let stranger = stranger(&pod);
        let length = [1, 2, 7, 100, 5_000, 32_000, 60_000][seed as usize % 7];
        let _ = socket::send(stranger.as_fd(), &noise(length, seed + 1), &[]);
        if seed % 2 == 0 {
            shutdown(&stranger, Shutdown::Write).unwrap();
            wait_until(|| is_closed(&stranger));
        }
    }
    // A body that is none, and one that never comes.
    for fds in [vec![std::fs::File::open("/dev/zero").unwrap()], vec![]] {
        let stranger = stranger(&pod);
        let envelope = v1::Request { id: 1, call: None, enclosed: 100 }.encode_to_vec();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        socket::send(stranger.as_fd(), &envelope, &fds).unwrap();
        wait_until(|| is_closed(&stranger));
    }
    assert!(pod.state_of("c").await.unwrap().exited.is_none());
    assert!(!pod.monitor.is_gone());
}

#[tokio::test]
async fn many_who_connect_take_nothing_from_the_daemon() {
    requires_root!();
    let pod = Pod::start().await;
    pod.run("c", "sleep 1000").await.unwrap();
    let (memory, open) = (resident(&pod), descriptors(&pod));
    let strangers: Vec<_> = (0..300).map(|_| stranger(&pod)).collect();
    let state = pod.state_of("c").await.unwrap();
    assert!(state.exited.is_none());
    assert!(descriptors(&pod) < open + 40, "they are held open");
    assert!(resident(&pod) < memory + 512, "memory grows");
    // Who comes later is heard.
    let (sender, _events) = unbounded_channel();
    let other = Monitor::connect(&pod.socket(), sender).unwrap();
    assert_eq!(other.state().await.unwrap().containers.len(), 1);
    drop(strangers);
    assert!(!pod.monitor.is_gone());
}

#[tokio::test]
async fn one_who_never_reads_is_closed() {
    requires_root!();
    let pod = Pod::start().await;
    for number in 0..100 {
        let id = format!("{number:0>64}");
        pod.run_as(v1::Start { log_path: String::new(), ..pod.request(&id) }, "exit 0")
            .await
            .unwrap();
    }
    let memory = resident(&pod);
    let stranger = stranger(&pod);
    let call = Some(v1::request::Call::State(v1::State {}));
    let request = v1::Request { id: 1, call, enclosed: 0 }.encode_to_vec();
    wait_until(|| {
        let sent = socket::send(stranger.as_fd(), &request, &[]);
        sent.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
    });
    assert!(resident(&pod) < memory + 512, "memory grows");
    assert_eq!(pod.monitor.state().await.unwrap().containers.len(), 100);
}
