//! What keeps containers in: labels of AppArmor and SELinux, and filters of system calls.

mod common;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use common::{Node, requests};
use criquet::cri::v1::{self, security_profile::ProfileType};
use tonic::Code;

/// Whether the kernel enforces AppArmor and has a parser; says so where it has not.
fn has_apparmor() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let has = enabled.is_ok_and(|text| text.trim() == "Y")
        && ["/usr/sbin", "/sbin"].iter().any(|d| Path::new(d).join("apparmor_parser").exists());
    if !has {
        eprintln!("SKIPPED: this machine has no AppArmor, or no apparmor_parser");
    }
    has
}

fn parser(option: &str, text: &str) {
    let mut parser = Command::new("apparmor_parser")
        .args([option, "--skip-cache"])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(parser.wait().unwrap().success(), "{text}");
}

fn wish(kind: ProfileType, name: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: name.to_owned() })
}

const LABEL: &str = "cat /proc/self/attr/apparmor/current";

#[tokio::test]
async fn the_default_profile_is_there_whoever_removes_it() {
    requires_root!();
    if !has_apparmor() {
        return;
    }
    let mut node = Node::start().await;
    let pod = node.pod("default").await;
    let long = requests::script("long", "exec sleep 1000");
    let long = node.launch(&pod, long).await;
    assert_eq!(node.output(&long, LABEL).await.trim(), "criquet-default (enforce)");
    let (_, text) = node.result_of(&pod, requests::script("nothing", LABEL)).await;
    assert_eq!(text.trim(), "criquet-default (enforce)");
    let mut config = requests::script("no-new-privileges", LABEL);
    requests::security(&mut config).no_new_privs = true;
    let (_, text) = node.result_of(&pod, config).await;
    assert_eq!(text.trim(), "criquet-default (enforce)");
    let mut config = requests::script("default", LABEL);
    requests::security(&mut config).apparmor = wish(ProfileType::RuntimeDefault, "");
    let made_before = node.create(&pod, config.clone()).await.unwrap();

    parser("--remove", "profile criquet-default {}\n");
    assert_eq!(node.output(&long, LABEL).await.trim(), "criquet-default (enforce)");
    parser("--remove", "profile criquet-default {}\n");
    node.start_container(&made_before).await.unwrap();
    assert_eq!(node.end_of(&made_before).await.exit_code, 0);
    let log = node.container_log(&config);
    assert_eq!(common::log_texts(&log, "stdout"), ["criquet-default (enforce)"]);

    // What a hole in masks, mounts and filters would open stays closed.
    let mut config = requests::script(
        "closed",
        "mount -t tmpfs none /tmp 2>/dev/null || echo no-mount
         umount /dev/shm 2>/dev/null || echo no-umount
         for file in /proc/sys/vm/overcommit_memory /proc/sys/kernel/core_pattern \
                     /proc/sys/fs/binfmt_misc/register /proc/irq/default_smp_affinity \
                     /proc/sysrq-trigger /sys/kernel/mm/transparent_hugepage/enabled; do
             (true >> $file) 2>/dev/null && echo \"$file is open\"
         done
         head -c 1 /proc/kcore > /dev/null 2>&1 && echo kcore is open
         (true >> /proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo own-network
         hostname of-its-own && sh -c 'kill -0 $$' && echo works",
    );
    let security = requests::security(&mut config);
    (security.masked_paths, security.readonly_paths) = (Vec::new(), Vec::new());
    security.capabilities =
        Some(v1::Capability { add_capabilities: vec!["ALL".to_owned()], ..Default::default() });
    let (_, text) = node.result_of(&pod, config).await;
    assert_eq!(text.trim(), "no-mount\nno-umount\nown-network\nworks");
    node.stop(&long, 5).await.unwrap();
}

#[tokio::test]
async fn profiles_are_those_that_are_asked_for() {
    requires_root!();
    if !has_apparmor() {
        return;
    }
    let name = format!("criquet-test-{}", std::process::id());
    let rules = "file, network, signal, ptrace, capability,";
    parser(
        "--replace",
        &format!("profile {name} flags=(attach_disconnected) {{ {rules} deny /tmp/** w, }}\n"),
    );
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "asked");
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.privileged = true;
    let pod = node.run(config).await.unwrap();

    let mut number = 0;
    let mut script = |privileged: bool, field: Option<v1::SecurityProfile>, text: &str| {
        number += 1;
        let script = format!("{LABEL}; touch /tmp/x 2> /dev/null || echo not written");
        let mut config = requests::script(&format!("c{number}"), &script);
        let security = requests::security(&mut config);
        (security.privileged, security.apparmor) = (privileged, field);
        #[expect(deprecated, reason = "older kubelets send it")]
        security.apparmor_profile.push_str(text);
        config
    };
    let own = format!("{name} (enforce)\nnot written");
    let prefixed = format!("localhost/{name}");
    for (config, expected) in [
        (script(false, wish(ProfileType::Localhost, &name), ""), own.as_str()),
        (script(false, wish(ProfileType::Localhost, &prefixed), ""), &own),
        (script(true, wish(ProfileType::Localhost, &name), ""), &own),
        (script(false, None, &prefixed), &own),
        // The new field goes before the old one.
        (script(false, wish(ProfileType::Unconfined, ""), &prefixed), "unconfined"),
        (script(false, None, "unconfined"), "unconfined"),
        (script(false, None, "runtime/default"), "criquet-default (enforce)"),
        (script(true, None, ""), "unconfined"),
        (script(true, wish(ProfileType::RuntimeDefault, ""), ""), "unconfined"),
    ] {
        let (_, text) = node.result_of(&pod, config.clone()).await;
        assert_eq!(text.trim(), expected, "{config:?}");
    }
    for config in [
        script(false, wish(ProfileType::Localhost, "localhost/there-is-none"), ""),
        script(false, None, "localhost/there-is-none"),
        script(true, wish(ProfileType::Localhost, "there-is-none"), ""),
    ] {
        let error = node.create(&pod, config).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains("\"there-is-none\" is not loaded"), "{error}");
    }

    // One that goes between the two calls lets nothing run without it.
    let config = script(false, wish(ProfileType::Localhost, &name), "");
    let container = node.create(&pod, config).await.unwrap();
    parser("--remove", &format!("profile {name} {{}}\n"));
    let error = node.start_container(&container).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("is it loaded"), "{error}");
}

/// Whether SELinux is enforced with the policy of `scripts/vm/selinux.sh`.
fn has_selinux() -> bool {
    let enforced = fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text == "1");
    let file = "/etc/selinux/targeted/contexts/lxc_contexts";
    let has = enforced && fs::read_to_string(file).is_ok_and(|text| text.contains("container_t"));
    if !has {
        eprintln!("SKIPPED: this machine does not enforce SELinux");
    }
    has
}

fn label_of(file: &Path) -> String {
    let mut buffer = vec![0; 1024];
    let length = rustix::fs::lgetxattr(file, "security.selinux", &mut buffer[..]).unwrap();
    String::from_utf8_lossy(&buffer[..length]).trim_end_matches('\0').to_owned()
}

const CONTEXT: &str = "tr -d '\\0' < /proc/self/attr/current; echo";

/// The level of a label such as `system_u:system_r:container_t:s0:c1,c2`.
fn level(label: &str) -> &str {
    label.trim().strip_prefix("system_u:system_r:container_t:").unwrap_or_else(|| {
        panic!("{label:?} is no container's");
    })
}

#[tokio::test]
async fn pods_have_levels_that_keep_them_apart() {
    requires_root!();
    if !has_selinux() {
        return;
    }
    let mut node = Node::start().await;
    let pods = [node.pod("a").await, node.pod("b").await];
    let (_, first) = node.result_of(&pods[0], requests::script("one", CONTEXT)).await;
    let (_, second) = node.result_of(&pods[0], requests::script("two", CONTEXT)).await;
    let (_, other) = node.result_of(&pods[1], requests::script("other", CONTEXT)).await;
    assert_eq!(first, second);
    assert_ne!(level(&first), level(&other));
    assert!(level(&first).starts_with("s0:c"), "{first}");

    // A volume of the first pod, with a link that leads out of it.
    let volume = tempfile::tempdir_in("/var/tmp").unwrap();
    let outside = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    fs::create_dir(volume.path().join("d")).unwrap();
    fs::write(volume.path().join("d/secret"), "secret\n").unwrap();
    std::os::unix::fs::symlink(outside.path(), volume.path().join("link")).unwrap();
    let before = label_of(outside.path());
    let mount = |relabel| v1::Mount {
        container_path: "/volume".to_owned(),
        host_path: volume.path().display().to_string(),
        selinux_relabel: relabel,
        ..Default::default()
    };
    let read = "cat /volume/d/secret && echo more >> /volume/d/secret && touch /dev/shm/x && exec sleep 1000";
    let mut config = requests::script("reads", read);
    config.mounts = vec![mount(true)];
    let reader = node.launch(&pods[0], config.clone()).await;
    let log = node.container_log(&config);
    common::eventually("the volume is read", async || {
        common::log_texts(&log, "stdout") == ["secret"]
    })
    .await;
    let file = format!("system_u:object_r:container_file_t:{}", level(&first));
    for name in ["", "d", "d/secret", "link"] {
        assert_eq!(label_of(&volume.path().join(name)), file, "{name}");
    }
    assert_eq!(label_of(outside.path()), before);
    let mut config = requests::script("steals", "cat /volume/d/secret || echo refused");
    config.mounts = vec![mount(false)];
    let (_, text) = node.result_of(&pods[1], config).await;
    assert_eq!(text.trim(), "refused");

    // Its execs have its label, a restart of the daemon later as well.
    assert_eq!(node.output(&reader, CONTEXT).await, first);
    node.kill_daemon();
    node.start_daemon().await;
    assert_eq!(node.output(&reader, CONTEXT).await, first);
    let (_, third) = node.result_of(&pods[0], requests::script("three", CONTEXT)).await;
    assert_eq!(third, first);

    let mut config = requests::script("system", CONTEXT);
    config.mounts = vec![v1::Mount { host_path: "/etc".to_owned(), ..mount(true) }];
    let error = node.create(&pods[0], config).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("/etc belongs to the node"), "{error}");
}

#[tokio::test]
async fn labels_are_those_that_are_asked_for() {
    requires_root!();
    if !has_selinux() {
        return;
    }
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "asked");
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.privileged = true;
    let option = |kind: &str, level: &str| {
        let (r#type, level) = (kind.to_owned(), level.to_owned());
        Some(v1::SeLinuxOption { r#type, level, ..Default::default() })
    };
    context.selinux_options = option("", "s0:c7,c9");
    let pod = node.run(config.clone()).await.unwrap();
    let mut number = 0;
    let mut script = |privileged, options| {
        number += 1;
        let mut config = requests::script(&format!("c{number}"), CONTEXT);
        let security = requests::security(&mut config);
        (security.privileged, security.selinux_options) = (privileged, options);
        config
    };
    for (config, expected) in [
        (script(false, None), "container_t:s0:c7,c9"),
        (script(false, option("other_t", "")), "other_t:s0:c7,c9"),
        (script(false, option("other_t", "s0:c3")), "other_t:s0:c3"),
        (script(true, option("other_t", "")), "other_t:s0:c7,c9"),
    ] {
        let (_, text) = node.result_of(&pod, config).await;
        assert_eq!(text.trim(), format!("system_u:system_r:{expected}"));
    }
    let (_, text) = node.result_of(&pod, script(true, None)).await;
    assert!(text.starts_with("system_u:system_r:spc_t:"), "{text}");
    let error = node.create(&pod, script(false, option("unknown_t", ""))).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("unknown_t"), "{error}");
    let metadata = config.metadata.as_mut().unwrap();
    metadata.name.push_str("-not");
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.selinux_options = option("", "s0:c5000");
    let error = node.run(config).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}

/// A profile of this test's that treats `execve` in some way.
fn profile(directory: &Path, action: &str) -> Option<v1::SecurityProfile> {
    let file = directory.join(action);
    let rule = format!("{{\"names\": [\"execve\"], \"action\": {action:?}}}");
    let text = format!("{{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{rule}]}}");
    fs::write(&file, text).unwrap();
    wish(ProfileType::Localhost, &file.display().to_string())
}

#[tokio::test]
async fn a_start_that_its_filter_ends_says_so() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("filters").await;
    let profiles = tempfile::tempdir().unwrap();
    for (action, words) in [
        ("SCMP_ACT_KILL_PROCESS", "its seccomp profile kills it (SIGSYS)"),
        ("SCMP_ACT_KILL_THREAD", "its seccomp profile kills it (SIGSYS)"),
        ("SCMP_ACT_TRAP", "its seccomp profile kills it (SIGSYS)"),
        ("SCMP_ACT_ERRNO", "its seccomp profile may refuse execve"),
    ] {
        let mut config = requests::script(action, "true");
        requests::security(&mut config).seccomp = profile(profiles.path(), action);
        let container = node.create(&pod, config).await.unwrap();
        let error = node.start_container(&container).await.unwrap_err();
        assert!(error.message().contains(words), "{action}: {error}");
        let status = node.status(&container).await.unwrap();
        assert_eq!((status.reason.as_str(), status.exit_code), ("StartError", 128), "{action}");
        assert!(status.message.contains(words), "{action}: {status:?}");
    }
    // A program that ends at once has run all the same.
    for _ in 0..20 {
        let (status, _) = node.result_of(&pod, requests::script("short", "exit 3")).await;
        assert_eq!((status.reason.as_str(), status.exit_code), ("Error", 3));
        node.remove(&status.id).await.unwrap();
    }
}

#[tokio::test]
async fn a_default_filter_is_for_those_who_say_nothing() {
    requires_root!();
    for (more, expected) in [("true", "2"), ("false", "0")] {
        let more = format!("warm_monitors = 0\n[security]\nseccomp_default = {more}");
        let mut node = Node::start_with(&more).await;
        let pod = node.pod("nothing").await;
        let filter = "grep Seccomp: /proc/self/status | tr -dc 0-9";
        let (_, text) = node.result_of(&pod, requests::script("nothing", filter)).await;
        assert_eq!(text.trim(), expected);
        let mut config = requests::script("unconfined", filter);
        requests::security(&mut config).seccomp = wish(ProfileType::Unconfined, "");
        let (_, text) = node.result_of(&pod, config).await;
        assert_eq!(text.trim(), "0");
    }
}
