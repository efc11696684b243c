//! The database and the state directory: lost, broken, or somebody else's.

use std::{fs, process::Command};

use criquet::cri::v1;

use crate::common::{Node, eventually, leaks, requests};

fn database(node: &Node) -> rusqlite::Connection {
    rusqlite::Connection::open(node.path("root/state.db")).unwrap()
}

#[tokio::test]
async fn a_container_whose_record_does_not_parse_is_ended_and_the_others_run_on() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let bad = node.launch(&pod, requests::script("bad", "sleep 1000")).await;
    let good = node.launch(&pod, requests::script("good", "sleep 1000")).await;
    node.kill_daemon();
    let changed = database(&node)
        .execute("UPDATE records SET body = CAST('{' AS BLOB) WHERE key = ?1", [&bad])
        .unwrap();
    assert_eq!(changed, 1);
    node.start_daemon().await;
    assert_eq!(node.output(&good, "echo here").await, "here");
    assert!(node.status(&bad).await.is_err());
    assert!(node.log().contains("does not parse"));
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn pods_that_nobody_knows_are_ended_before_their_addresses_are_given_again() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("old").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let address = node.pod_status(&pod).await.unwrap().network.unwrap().ip;
    node.kill_daemon();
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(node.path("root").join(file));
    }
    node.start_daemon().await;
    crate::common::image::import(node.directory.path());
    let new = node.pod("new").await;
    assert!(node.log().contains("that the state database does not know"));
    assert!(node.status(&container).await.is_err());
    assert_eq!(node.pod_status(&new).await.unwrap().network.unwrap().ip, address);
    eventually("only the new pod's monitor is left", async || node.monitors().len() == 1).await;
    node.remove_pod(&new).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_damaged_database_does_not_keep_the_daemon_from_starting() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    node.launch(&pod, requests::script("c", "sleep 1000")).await;
    node.kill_daemon();
    database(&node).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    fs::write(node.path("root/state.db"), b"garbage".repeat(4000)).unwrap();
    node.start_daemon().await;
    assert!(node.log().contains("the state database is damaged"));
    assert!(node.pods(v1::PodSandboxFilter::default()).await.is_empty());
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_damaged_page_of_the_database_costs_what_stood_on_it() {
    requires_root!();
    // Where the record's key stands, in the tree of all records, and where its body goes on.
    lose_page(|bytes, key| bytes.windows(key.len()).position(|window| window == key)).await;
    lose_page(|bytes, key| bytes.windows(key.len()).rposition(|window| window == key)).await;
}

async fn lose_page(find: fn(&[u8], &[u8]) -> Option<usize>) {
    let mut node = Node::start().await;
    let mut pods = Vec::new();
    for number in 0..8 {
        let pod = node.pod(&format!("p{number}")).await;
        let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
        pods.push((pod, container));
    }
    node.kill_daemon();
    database(&node).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let page: i64 =
        database(&node).pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    let page = page as usize;
    let file = node.path("root/state.db");
    let mut bytes = fs::read(&file).unwrap();
    let key = pods[3].1.as_bytes();
    let at = find(&bytes, key).unwrap() / page * page;
    assert!(at > 0, "the first page is the header's");
    bytes[at..at + page].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    node.start_daemon().await;
    let log = node.log();
    assert!(log.contains("is damaged") || log.contains("does not parse"), "it is told");
    // Some are known and run on; the others are ended, and none is there twice.
    let known = node.pods(v1::PodSandboxFilter::default()).await;
    for (pod, container) in &pods {
        let is_known = known.iter().any(|known| known.id == *pod);
        if is_known && node.status(container).await.is_ok() {
            assert_eq!(node.output(container, "echo here").await, "here");
        }
        node.remove_pod(pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_database_of_the_future_is_refused_and_its_pods_run_on() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    node.kill_daemon();
    let version = |number: u32| {
        database(&node).pragma_update(None, "user_version", number).unwrap();
    };
    version(99);
    let output = node
        .inside(env!("CARGO_BIN_EXE_criquet"))
        .args(["serve", "--config"])
        .arg(node.path("config.toml"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("install the newer Criquet"), "{words}");
    version(1);
    node.start_daemon().await;
    assert_eq!(node.output(&container, "echo here").await, "here");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn whatever_two_daemons_must_not_share_is_refused_by_name() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    let container = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let original = fs::read_to_string(node.path("config.toml")).unwrap();
    let own = [
        ("root = ", format!("root = {:?}", node.path("other-root"))),
        ("state = ", format!("state = {:?}", node.path("other-state"))),
        ("cgroup_parent = ", format!("cgroup_parent = \"/{}-other\"", node.cgroup)),
        ("netns_dir = ", format!("netns_dir = {:?}", node.path("other-netns"))),
    ];
    for (step, what) in ["root", "state directory", "cgroup parent", "netns directory", "bridge"]
        .into_iter()
        .enumerate()
    {
        let line_of = |line: &str| {
            let own = own.iter().take(step).find(|(key, _)| line.starts_with(key));
            own.map_or(line.to_owned(), |(_, own)| own.clone())
        };
        let config: Vec<String> = original.lines().map(line_of).collect();
        let file = node.path("other.toml");
        fs::write(&file, config.join("\n")).unwrap();
        let output = node
            .inside(env!("CARGO_BIN_EXE_criquet"))
            .args(["serve", "--config"])
            .arg(&file)
            .arg("--listen")
            .arg(format!("unix://{}", node.path("other.sock").display()))
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains(&format!("another criquet uses the {what}")), "{what}: {words}");
        assert!(words.contains("netns_dir") && words.contains("network.bridge"), "{words}");
    }
    assert_eq!(node.output(&container, "echo here").await, "here");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn signals_of_other_runtimes_write_a_report_and_end_nothing() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("pod").await;
    for signal in ["USR1", "USR2", "QUIT"] {
        let before = node.log().matches("1 sandboxes ready").count();
        let pid = node.daemon_pid().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        eventually("the report is written", async || {
            node.log().matches("1 sandboxes ready").count() > before
        })
        .await;
    }
    node.remove_pod(&pod).await.unwrap();
    assert!(!node.has_ended());
    leaks::assert_nothing_left(&node).await;
}
