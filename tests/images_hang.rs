//! Pulls whose threads hang, on a file that somebody else never writes: others go on, and the
//! daemon ends when it is told to.

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use common::{Node, eventually, requests};
use criquet::{
    admin::{
        client::channel,
        v1::{ListPullsRequest, admin_client::AdminClient},
    },
    cri::v1,
};
use rustix::process::{Pid, Signal, kill_process};

/// More than all threads that the daemon may have for work that blocks.
const PULLS: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn pulls_that_hang_hold_up_nobody_and_end_with_the_daemon() {
    requires_root!();
    let mut node = Node::start().await;
    let host = node.path("certs.d/127.0.0.1:9");
    fs::create_dir_all(&host).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, host.join("hosts.toml"), fifo, mode, 0).unwrap();

    let pulls: Vec<_> = (0..PULLS)
        .map(|number| {
            let mut images = node.images.clone();
            let name = format!("127.0.0.1:9/image:{number}");
            let image = Some(v1::ImageSpec { image: name, ..Default::default() });
            let request = v1::PullImageRequest { image, ..Default::default() };
            tokio::spawn(async move { images.pull_image(request).await })
        })
        .collect();
    let mut administrator = AdminClient::new(channel(node.path("criquet.sock")));
    let mut under_way = async || {
        let pulls = administrator.list_pulls(ListPullsRequest::default()).await.unwrap();
        pulls.into_inner().pulls.len()
    };
    eventually("all pulls are under way", async || under_way().await == PULLS).await;
    for pull in pulls {
        pull.abort();
    }
    eventually("no pull that nobody waits for is left", async || under_way().await == 0).await;

    let pod = node.pod("beside").await;
    let container = node.launch(&pod, requests::script("beside", "sleep 100000")).await;
    assert_eq!(node.output(&container, "echo well").await, "well");

    let daemon = Pid::from_raw(node.daemon_pid() as i32).unwrap();
    kill_process(daemon, Signal::TERM).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !node.has_ended() {
        assert!(Instant::now() < end, "the daemon does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
