//! What containers get besides what is asked for, and what annotations may ask for.

mod common;

use common::{Node, leaks, requests};
use criquet::cri::v1;
use tonic::Code;

#[tokio::test]
async fn the_node_adds_what_nobody_else_says() {
    requires_root!();
    let zone = "/usr/share/zoneinfo/Etc/GMT-14";
    let has_zones = std::path::Path::new(zone).exists();
    if !has_zones {
        eprintln!("SKIPPED: the time zone, since this machine has no time zone database");
    }
    let timezone = if has_zones { "Etc/GMT-14" } else { "" };
    let more = format!(
        "warm_monitors = 0\n[containers]\n\
         default_env = [\"NODE=n\", \"FROM_IMAGE=node\", \"POD=node\", \"PATH=/node\"]\n\
         default_ulimits = [\"nofile=100:200\", \"core=0\"]\ntimezone = {timezone:?}\n\
         passwd_entries = true"
    );
    let mut node = Node::start_with(&more).await;
    let pod = node.pod("p").await;
    let mut config = requests::script("c", "sleep 1000");
    config.envs = vec![v1::KeyValue { key: "POD".to_owned(), value: b"pod".to_vec() }];
    requests::security(&mut config).run_as_user = Some(v1::Int64Value { value: 4242 });
    let id = node.launch(&pod, config).await;
    assert_eq!(node.output(&id, "echo $NODE $FROM_IMAGE $POD $PATH").await, "n yes pod /bin");
    // Of the program and of commands beside it.
    for process in ["1", "self"] {
        let look = format!("grep -E 'open files|core' /proc/{process}/limits");
        let limits = node.output(&id, &look).await;
        let limits: Vec<Vec<&str>> =
            limits.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(limits[0][4..6], ["0", "0"], "{limits:?}");
        assert_eq!(limits[1][3..5], ["100", "200"], "{limits:?}");
    }
    if has_zones {
        let expected = std::fs::read(zone).unwrap();
        let found = node.exec(&id, "cat /etc/localtime", 30).await.unwrap().stdout;
        assert!(found == expected);
        let written = node.exec(&id, "echo > /etc/localtime", 30).await.unwrap();
        assert_ne!(written.exit_code, 0);
    }
    let line = node.output(&id, "grep 4242 /etc/passwd; id -u; grep -c . /etc/passwd").await;
    assert_eq!(line, "4242:x:4242:0:container user:/:/sbin/nologin\n4242\n3");
    // One that the image knows has the image's file.
    let known = node.launch(&pod, requests::script("known", "sleep 1000")).await;
    assert_eq!(node.output(&known, "grep -c ' /etc/passwd ' /proc/mounts; true").await, "0");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

fn asking(node: &Node, name: &str, annotations: &[(&str, &str)]) -> v1::PodSandboxConfig {
    let annotations = annotations.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    v1::PodSandboxConfig { annotations: annotations.collect(), ..requests::sandbox(node, name) }
}

const ALL: [(&str, &str); 3] = [
    ("io.kubernetes.cri-o.ShmSize", "1Mi"),
    ("io.criquet.ulimits.c", "nofile=50:60"),
    ("io.criquet.umask", "0077"),
];

const LOOK: &str = "df -k /dev/shm | sed -n '2s/ \\+/ /gp' | sed 's/^[^ ]* \\([0-9]*\\).*/\\1/'; \
                    ulimit -n; touch /tmp/x; stat -c %a /tmp/x";

#[tokio::test]
async fn annotations_count_where_they_are_allowed() {
    requires_root!();
    let names = ALL.map(|(name, _)| name.trim_end_matches(".c"));
    let names = format!("{names:?}");
    let mut node = Node::start_with(&format!("[containers]\nallowed_annotations = {names}")).await;
    let config = asking(&node, "p", &ALL);
    let pod = node.run(config).await.unwrap();
    let (_, words) = node.result_of(&pod, requests::script("c", LOOK)).await;
    assert_eq!(words, "1024\n50\n600");
    let (_, words) = node.result_of(&pod, requests::script("other", LOOK)).await;
    assert!(words.starts_with("1024\n") && !words.contains("\n50\n"), "{words}");
    node.remove_pod(&pod).await.unwrap();

    let config = asking(&node, "size", &[("io.kubernetes.cri-o.ShmSize", "much")]);
    let error = node.run(config).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    for wrong in [("io.criquet.ulimits", "files=1"), ("io.criquet.umask", "9")] {
        let config = asking(&node, wrong.0, &[wrong]);
        let pod = node.run(config).await.unwrap();
        let error = node.create(&pod, requests::script("c", "true")).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(wrong.0), "{error}");
        node.remove_pod(&pod).await.unwrap();
    }
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn annotations_that_are_not_allowed_are_passed_over() {
    requires_root!();
    let mut node = Node::start().await;
    let config = asking(&node, "p", &ALL);
    let pod = node.run(config).await.unwrap();
    let (_, words) = node.result_of(&pod, requests::script("c", LOOK)).await;
    assert!(words.starts_with("65536\n") && words.ends_with("\n644"), "{words}");
    assert!(!words.contains("\n50\n"), "{words}");
    node.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn cgroups_can_be_made_where_that_is_allowed() {
    requires_root!();
    let name = "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw";
    let mut node =
        Node::start_with(&format!("[containers]\nallowed_annotations = [{name:?}]")).await;
    let config = asking(&node, "p", &[(name, "true")]);
    let pod = node.run(config).await.unwrap();
    let make = "mkdir /sys/fs/cgroup/mine && ls /sys/fs/cgroup/mine | grep -c cgroup.procs";
    let created = node.create(&pod, requests::script("c", make)).await;
    if !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let error = created.unwrap_err();
        assert!(error.message().contains("cgroup v2"), "{error}");
        return eprintln!("SKIPPED: no cgroup v2, where it is refused");
    }
    let id = created.unwrap();
    node.start_container(&id).await.unwrap();
    assert_eq!(node.end_of(&id).await.exit_code, 0);
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}
