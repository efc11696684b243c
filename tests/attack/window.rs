//! The moment between the birth of a process in a container and its program: whoever may trace
//! others there looks at it, and tries to find something of the host.

use criquet::cri::v1;

use crate::{
    common::{Node, requests},
    python,
};

/// Looks at every new process of the PID namespace until it executes something: descriptor 7
/// is `/proc`, 8 takes what was found.
const WATCHER: &str = r#"
import os
def text(name): 
    with open(os.open(name, os.O_RDONLY, dir_fd=7)) as file: return file.read()
def caps(pid, kind):
    line = next(l for l in text(pid + "/status").splitlines() if l.startswith(kind + ":"))
    return int(line.split()[1], 16)
def root(pid):
    stat = os.stat(pid + "/root/.", dir_fd=7)
    return stat.st_dev, stat.st_ino
def streams(pid):
    fd = os.open(pid + "/fd", os.O_RDONLY, dir_fd=7)
    names = os.listdir(fd)
    more = [os.readlink(name, dir_fd=fd) for name in names if int(name) > 2]
    os.close(fd)
    return more
bound, host = caps("self", "CapBnd"), os.stat("/")
host = host.st_dev, host.st_ino
known, seen, found = set(os.listdir(7)), 0, set()
while True:
    for pid in set(os.listdir(7)) - known:
        try:
            while text(pid + "/comm").strip() == "criquet-monitor":
                at, has, more = root(pid), caps(pid, "CapPrm"), streams(pid)
                if text(pid + "/comm").strip() != "criquet-monitor": break
                seen += 1
                if at == host: found.add("root")
                if has & ~bound: found.add("capabilities %x" % has)
                if len(more) > 1 or any(not name.startswith("socket:") for name in more):
                    found.add("descriptors %s" % more)
        except OSError:
            pass
        except StopIteration:
            pass
        known.add(pid)
        os.pwrite(8, ("%d %s\n" % (seen, sorted(found))).encode().ljust(512), 0)
"#;

fn watcher(node: &Node, pid: v1::NamespaceMode) -> v1::ContainerConfig {
    std::fs::write(node.path("watcher.py"), WATCHER).unwrap();
    let file = node.path("watcher.py").display().to_string();
    let script = format!("exec chroot /host {} {file} 7</proc 8>/found", python());
    let mut config = requests::script("watcher", &script);
    config.mounts.push(v1::Mount {
        container_path: "/host".to_owned(),
        host_path: "/".to_owned(),
        readonly: true,
        ..Default::default()
    });
    let security = requests::security(&mut config);
    security.namespace_options =
        Some(v1::NamespaceOption { pid: pid.into(), ..Default::default() });
    security.capabilities = Some(v1::Capability {
        add_capabilities: vec!["SYS_PTRACE".to_owned()],
        ..Default::default()
    });
    config
}

/// How many were seen, and what they had.
async fn found(node: &mut Node, id: &str) -> (u32, String) {
    let text = node.output(id, "cat /found").await;
    let (seen, found) = text.trim().split_once(' ').unwrap_or(("0", "[]"));
    (seen.parse().unwrap(), found.to_owned())
}

#[tokio::test]
async fn an_exec_has_nothing_of_the_host_when_it_is_seen() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("p").await;
    let config = watcher(&node, v1::NamespaceMode::Container);
    let id = node.launch(&pod, config).await;
    crate::common::eventually("the watcher watches", async || {
        node.output(&id, "test -e /found && echo yes || true").await == "yes"
    })
    .await;
    let mut seen = 0;
    for _ in 0..40 {
        for _ in 0..25 {
            node.output(&id, "true").await;
        }
        let found = found(&mut node, &id).await;
        assert_eq!(found.1, "[]", "of {} that were seen", found.0);
        seen = found.0;
        if seen >= 20 {
            return;
        }
    }
    panic!("the watcher has seen {seen} processes only: nothing is shown");
}

#[tokio::test]
async fn a_container_that_joins_a_pid_namespace_has_nothing_of_the_host_either() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "shared");
    let shared = v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() };
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = Some(shared.clone());
    let pod = node.run(config).await.unwrap();
    let config = watcher(&node, v1::NamespaceMode::Pod);
    let id = node.launch(&pod, config).await;
    crate::common::eventually("the watcher watches", async || {
        node.output(&id, "test -e /found && echo yes || true").await == "yes"
    })
    .await;
    let mut seen = 0;
    for attempt in 0..60 {
        let mut config =
            requests::script(&format!("c{attempt}"), "test \"$(cat /proc/1/comm)\"; exit 3");
        requests::security(&mut config).namespace_options = Some(shared.clone());
        let other = node.launch(&pod, config).await;
        assert_eq!(node.end_of(&other).await.exit_code, 3);
        let found = found(&mut node, &id).await;
        assert_eq!(found.1, "[]", "of {} that were seen", found.0);
        seen = found.0;
        if seen >= 10 {
            return;
        }
    }
    panic!("the watcher has seen {seen} processes only: nothing is shown");
}

/// What is called for a program before it runs is nothing that its profile has to allow, nor
/// anything that it may do itself for that.
#[tokio::test]
async fn a_profile_need_not_know_how_processes_are_made() {
    requires_root!();
    let mut node = Node::start().await;
    let profile = node.path("profile.json");
    let names = r#"["setsid", "capset", "setuid", "setresuid", "setgroups", "clone", "clone3",
        "fork", "vfork", "prctl", "seccomp"]"#;
    let rule = format!(r#"{{"names": {names}, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}}"#);
    let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
    std::fs::write(&profile, json).unwrap();
    let mut config = requests::sandbox(&node, "shared");
    let shared = v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() };
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = Some(shared.clone());
    let pod = node.run(config).await.unwrap();
    for user in [0, 1000] {
        let mut config = requests::script(&format!("c{user}"), "exec sleep 1000");
        let security = requests::security(&mut config);
        security.namespace_options = Some(shared.clone());
        security.run_as_user = Some(v1::Int64Value { value: user });
        security.seccomp = Some(v1::SecurityProfile {
            profile_type: v1::security_profile::ProfileType::Localhost.into(),
            localhost_ref: profile.display().to_string(),
        });
        let id = node.launch(&pod, config).await;
        let is_leader = "read pid rest < /proc/self/stat; set -- $rest; echo $(($4 == pid))";
        assert_eq!(node.output(&id, is_leader).await, "1", "it leads a session");
        let response = node.exec(&id, "(true); exit 0", 10).await.unwrap();
        assert_ne!(response.exit_code, 0, "it may not fork");
        let mine = "while read key value rest; do case $key in Seccomp:|Uid:) echo $value;; esac; \
                    done < /proc/self/status";
        assert_eq!(node.output(&id, mine).await, format!("{user}\n2"));
    }
}
