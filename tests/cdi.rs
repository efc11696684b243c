//! Devices by the Container Device Interface, and the hooks that come with them.

mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use common::{Node, leaks, requests};
use criquet::cri::v1;
use serde_json::{Value, json};
use tonic::Code;

async fn node() -> Node {
    let directory = tempfile::tempdir().unwrap();
    // Where the node will look, before it has a directory of its own.
    let path = directory.keep();
    fs::create_dir(path.join("low")).unwrap();
    fs::create_dir(path.join("high")).unwrap();
    let directories = ["low", "high"].map(|name| path.join(name));
    let more = format!("warm_monitors = 0\n[containers]\ncdi_spec_dirs = {directories:?}");
    let node = Node::start_with(&more).await;
    std::os::unix::fs::symlink(&path, node.path("cdi")).unwrap();
    node
}

fn describe(node: &Node, file: &str, device: &str, edits: &Value) {
    let text = json!({
        "cdiVersion": "0.7.0", "kind": "vendor.com/device",
        "containerEdits": { "env": [format!("FROM={file}")] },
        "devices": [{ "name": device, "containerEdits": edits }],
    });
    fs::write(node.path("cdi").join(file), text.to_string()).unwrap();
}

fn with(name: &str, script: &str, devices: &[&str]) -> v1::ContainerConfig {
    let name_of = |device: &&str| v1::CdiDevice { name: format!("vendor.com/device={device}") };
    let cdi_devices = devices.iter().map(name_of).collect();
    v1::ContainerConfig { cdi_devices, ..requests::script(name, script) }
}

fn end(node: Node) {
    let target = fs::read_link(node.path("cdi")).unwrap();
    fs::remove_dir_all(target).unwrap();
}

/// An executable script of the node.
fn script(node: &Node, name: &str, text: &str) -> String {
    let path = node.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_device_brings_its_node_its_mounts_and_its_groups() {
    requires_root!();
    let mut node = node().await;
    fs::write(node.path("library"), "content").unwrap();
    let edits = json!({
        "env": ["DEVICE=a", "FROM_IMAGE=no"],
        "deviceNodes": [
            { "path": "/dev/mine/full", "hostPath": "/dev/full", "permissions": "rw" },
            { "path": "/dev/urandom-of-user", "hostPath": "/dev/urandom", "fileMode": 0o600, "uid": 7 }
        ],
        "mounts": [{
            "hostPath": node.path("library"), "containerPath": "/usr/lib/x/library",
            "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]
        }],
        "additionalGids": [4242],
    });
    describe(&node, "low/vendor.json", "a", &edits);
    let pod = node.pod("p").await;
    let look = "echo $DEVICE $FROM_IMAGE; stat -c '%t:%T' /dev/mine/full; \
                stat -c '%a %u' /dev/urandom-of-user; cat /usr/lib/x/library; echo; id -G; \
                echo x > /dev/mine/full 2> /dev/null || echo full";
    let (status, words) = node.result_of(&pod, with("c", look, &["a"])).await;
    assert_eq!(status.exit_code, 0);
    assert_eq!(words, "a no\n1:7\n600 7\ncontent\n0 4242\nfull");

    // By an annotation as well; one of the pod or of the image is nobody's word.
    let mut annotated = with("annotated", "echo $FROM $DEVICE", &[]);
    annotated.annotations.insert("cdi.k8s.io/x".into(), "vendor.com/device=a".into());
    assert_eq!(node.result_of(&pod, annotated).await.1, "low/vendor.json a");

    // What changes counts for the next container, and the later directory goes first.
    describe(&node, "high/other.json", "a", &json!({ "env": ["DEVICE=b"] }));
    let (_, words) = node.result_of(&pod, with("d", "echo $FROM $DEVICE", &["a"])).await;
    assert_eq!(words, "high/other.json b");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
    end(node);
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_when_the_container_is_made() {
    requires_root!();
    let mut node = node().await;
    describe(&node, "low/one.json", "twice", &json!({ "env": ["A=1"] }));
    describe(&node, "low/two.json", "twice", &json!({ "env": ["A=2"] }));
    let absent = json!({ "deviceNodes": [{ "path": "/dev/does-not-exist" }] });
    describe(&node, "low/absent.json", "absent", &absent);
    describe(&node, "low/rdt.json", "rdt", &json!({ "intelRdt": { "closID": "x" } }));
    fs::write(node.path("cdi/low/broken.yaml"), "cdiVersion: [").unwrap();
    let pod = node.pod("p").await;
    for (device, code, words) in [
        ("unknown", Code::NotFound, ["vendor.com/device=unknown", "broken.yaml"]),
        ("twice", Code::FailedPrecondition, ["one.json", "two.json"]),
        ("absent", Code::FailedPrecondition, ["vendor.com/device=absent", "/dev/does-not-exist"]),
        ("rdt", Code::FailedPrecondition, ["intelRdt", "/sys/fs/resctrl"]),
        ("a=b", Code::InvalidArgument, ["a=b", "vendor.com/class=name"]),
    ] {
        let error = node.create(&pod, with("c", "true", &[device])).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        for word in words {
            assert!(error.message().contains(word), "{error}");
        }
    }
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
    end(node);
}

/// Hooks that write down their moment, what they are told, and where they are.
fn hooks_that_tell(node: &Node) -> Value {
    let told = node.path("told");
    let tell = script(
        node,
        "tell",
        &format!(
            "state=$(cat)\nroot=\nfor word in \"$@\"; do case $word in root=*) root=${{word#root=}};; \
             esac; done\n\
             echo \"$1 $STAMP $(readlink /proc/self/ns/mnt) $(test -e $root/bin/busybox && echo seen) \
             $state\" >> {}",
            told.display()
        ),
    );
    let root = format!("root={}", node.path("state/rootfs").display());
    let hook = |name: &str| {
        json!({ "hookName": name, "path": tell, "args": ["tell", name, root],
            "env": ["STAMP=s", "PATH=/usr/bin:/bin"] })
    };
    let mut hooks: Vec<Value> =
        ["prestart", "createRuntime", "createContainer", "poststart", "poststop"].map(hook).into();
    // A file of the image, run in the container as the user of the container.
    let inner = "cat > /dev/shm/state; id > /dev/shm/user; echo $A > /dev/shm/a; \
                 grep CapEff /proc/self/status > /dev/shm/caps";
    hooks.push(json!({ "hookName": "startContainer", "path": "/bin/sh",
        "args": ["sh", "-c", inner], "env": ["A=inside", "PATH=/bin"], "timeout": 30 }));
    json!({ "hooks": hooks })
}

fn told(path: &Path) -> Vec<(String, String, bool, Value)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (head, state) = line.split_once('{').unwrap();
        let words: Vec<&str> = head.split_whitespace().collect();
        assert_eq!(words[1], "s", "{line}");
        let state = serde_json::from_str(&format!("{{{state}")).unwrap();
        (words[0].to_owned(), words[2].to_owned(), words.get(3) == Some(&"seen"), state)
    };
    text.lines().map(line).collect()
}

#[tokio::test]
async fn hooks_are_run_at_their_moments_and_are_told_the_state() {
    requires_root!();
    let mut node = node().await;
    describe(&node, "low/hooks.json", "h", &hooks_that_tell(&node));
    let pod = node.pod("p").await;
    let mut config = with("c", "sleep 1000", &["h"]);
    requests::security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
    let id = node.create(&pod, config).await.unwrap();
    assert!(told(&node.path("told")).is_empty(), "hooks belong to the start");
    node.start_container(&id).await.unwrap();
    let host = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    let lines = told(&node.path("told"));
    let moments: Vec<&str> = lines.iter().map(|(moment, ..)| moment.as_str()).collect();
    assert_eq!(moments, ["prestart", "createRuntime", "createContainer", "poststart"]);
    for (moment, namespace, sees_root, state) in &lines {
        let is_inside = moment == "createContainer";
        assert_eq!(*namespace != host, is_inside, "{moment}");
        assert_eq!(*sees_root, is_inside, "{moment}");
        let status = if moment == "poststart" { "running" } else { "creating" };
        assert_eq!((&state["id"], &state["status"]), (&json!(id), &json!(status)));
        let container = &state["annotations"]["io.kubernetes.cri.container-name"];
        assert_eq!(container, "c", "{state}");
        let bundle = Path::new(state["bundle"].as_str().unwrap()).join("config.json");
        let spec: Value = serde_json::from_slice(&fs::read(bundle).unwrap()).unwrap();
        assert_eq!(spec["root"]["path"], node.path("state/rootfs").display().to_string());
        if !is_inside {
            let pid = state["pid"].as_i64().unwrap();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            assert_eq!(name.trim(), "sleep", "{moment}");
        }
    }
    // The one inside had the rights of the program, and no more.
    assert_eq!(node.output(&id, "cat /dev/shm/a").await, "inside");
    assert!(node.output(&id, "cat /dev/shm/user").await.starts_with("uid=1000"));
    assert!(node.output(&id, "cat /dev/shm/caps").await.ends_with("0000000000000000"));
    let state: Value = serde_json::from_str(&node.output(&id, "cat /dev/shm/state").await).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(1)));

    node.remove(&id).await.unwrap();
    let (moment, _, _, state) = told(&node.path("told")).pop().unwrap();
    assert_eq!((moment.as_str(), &state["status"]), ("poststop", &json!("stopped")));
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
    end(node);
}

#[tokio::test]
async fn a_hook_that_fails_fails_the_start_and_says_why() {
    requires_root!();
    let mut node = node().await;
    let fails = script(&node, "fails", "echo first; echo the last words >&2; exit 3");
    let hangs = script(&node, "hangs", "echo before; sleep 1000 & wait");
    let pod = node.pod("p").await;
    for moment in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        // The one inside is a file of the container.
        let program = |path: &String, script: &str| match moment {
            "startContainer" => json!({ "hookName": moment, "path": "/bin/sh",
                "args": ["sh", "-c", script], "env": ["PATH=/bin"] }),
            _ => json!({ "hookName": moment, "path": path }),
        };
        let fails = program(&fails, "echo the last words >&2; exit 3");
        describe(&node, "low/hook.json", "fails", &json!({ "hooks": [fails] }));
        let id = node.create(&pod, with(moment, "sleep 1000", &["fails"])).await.unwrap();
        let error = node.start_container(&id).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        for word in [moment, "exit code 3", "the last words"] {
            assert!(error.message().contains(word), "{moment}: {error}");
        }
        let status = node.status(&id).await.unwrap();
        assert_eq!((status.reason.as_str(), status.exit_code), ("StartError", 128));

        let mut hangs = program(&hangs, "echo before; sleep 1000");
        hangs["timeout"] = json!(1);
        describe(&node, "low/hook.json", "hangs", &json!({ "hooks": [hangs] }));
        let name = format!("{moment}-hangs");
        let id = node.create(&pod, with(&name, "sleep 1000", &["hangs"])).await.unwrap();
        let error = node.start_container(&id).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        for word in [moment, "1 second", "before"] {
            assert!(error.message().contains(word), "{moment}: {error}");
        }
    }
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
    end(node);
}

#[tokio::test]
async fn a_program_may_end_before_the_hooks_after_its_start() {
    requires_root!();
    let mut node = node().await;
    let flag = node.path("flag");
    let waits = format!("while ! test -e {}; do sleep 0.01; done", flag.display());
    let waits = script(&node, "waits", &waits);
    let hook = json!({ "hookName": "poststart", "path": waits, "env": ["PATH=/usr/bin:/bin"] });
    describe(&node, "low/hook.json", "w", &json!({ "hooks": [hook] }));
    let pod = node.pod("p").await;
    let config = with("c", "echo done; exit 7", &["w"]);
    let log = node.container_log(&config);
    let id = node.create(&pod, config).await.unwrap();
    let start = {
        let (mut runtime, container_id) = (node.runtime.clone(), id.clone());
        let request = v1::StartContainerRequest { container_id };
        tokio::spawn(async move { runtime.start_container(request).await })
    };
    common::eventually("it has run", async || !common::log_texts(&log, "stdout").is_empty()).await;
    assert!(!start.is_finished());
    fs::write(&flag, "").unwrap();
    start.await.unwrap().unwrap();
    assert_eq!(node.end_of(&id).await.exit_code, 7);

    // A stop does not wait for the hook, and nothing of it stays.
    fs::remove_file(&flag).unwrap();
    let config = with("stopped", "echo runs; sleep 1000", &["w"]);
    let log = node.container_log(&config);
    let id = node.create(&pod, config).await.unwrap();
    let start = {
        let (mut runtime, container_id) = (node.runtime.clone(), id.clone());
        let request = v1::StartContainerRequest { container_id };
        tokio::spawn(async move { runtime.start_container(request).await })
    };
    common::eventually("it runs", async || !common::log_texts(&log, "stdout").is_empty()).await;
    node.stop(&id, 0).await.unwrap();
    start.await.unwrap().unwrap_err();
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
    let name = waits.clone();
    common::eventually("the hook has ended", async || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        !all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
            .any(|line| line.contains(&name))
    })
    .await;
    end(node);
}

#[tokio::test]
async fn hooks_are_run_in_a_pod_that_shares_its_processes() {
    requires_root!();
    let mut node = node().await;
    let Value::Array(hooks) = hooks_that_tell(&node)["hooks"].clone() else { panic!() };
    let others: Vec<Value> =
        hooks.iter().filter(|hook| hook["hookName"] != "poststart").cloned().collect();
    describe(&node, "low/others.json", "others", &json!({ "hooks": others }));
    describe(&node, "low/all.json", "all", &json!({ "hooks": hooks }));
    let mut config = requests::sandbox(&node, "shared");
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(v1::NamespaceOption::default());
    let pod = node.run(config).await.unwrap();
    let shared = |mut config: v1::ContainerConfig| {
        requests::security(&mut config).namespace_options = Some(v1::NamespaceOption::default());
        config
    };
    let id = node.launch(&pod, shared(with("c", "sleep 1000", &["others"]))).await;
    let moments: Vec<String> = told(&node.path("told")).into_iter().map(|line| line.0).collect();
    assert_eq!(moments, ["prestart", "createRuntime", "createContainer"]);
    assert_eq!(node.output(&id, "cat /dev/shm/a").await, "inside");
    let id = node.create(&pod, shared(with("all", "sleep 1000", &["all"]))).await.unwrap();
    let error = node.start_container(&id).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
    assert!(error.message().contains("poststart"), "{error}");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
    end(node);
}
