//! Containers: how they run, end, log, and what they may do.

mod common;

use std::{fs, time::Duration};

use common::{Node, eventually, leaks, log_texts, requests};
use criquet::cri::v1;
use tonic::Code;

#[tokio::test]
async fn a_container_lives_and_leaves_nothing() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("life").await;
    let config = requests::script("c", "echo out; echo err >&2; exit 3");
    let log = node.container_log(&config);
    let id = node.create(&pod, config.clone()).await.unwrap();
    assert_eq!(node.create(&pod, config.clone()).await.unwrap(), id, "a repeat gets the first");
    let status = node.status(&id).await.unwrap();
    assert_eq!(status.state, i32::from(v1::ContainerState::ContainerCreated));
    assert_eq!((status.started_at, status.finished_at), (0, 0));
    assert!(status.created_at > 0);

    node.start_container(&id).await.unwrap();
    let status = node.end_of(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at);
    assert_eq!(log_texts(&log, "stdout"), ["out"]);
    assert_eq!(log_texts(&log, "stderr"), ["err"]);
    assert_eq!(node.create(&pod, config).await.unwrap_err().code(), Code::AlreadyExists);
    let again = node.start_container(&id).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);

    node.remove(&id).await.unwrap();
    node.remove(&id).await.unwrap();
    assert_eq!(node.status(&id).await.unwrap_err().code(), Code::NotFound);
    assert!(log.exists(), "the log stays");
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn ends_have_their_reasons() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("ends").await;
    let (status, _) = node.result_of(&pod, requests::script("zero", "exit 0")).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    let (status, _) = node.result_of(&pod, requests::script("signal", "kill -9 $$; sleep 9")).await;
    // Process 1 of a namespace does not get signals from inside, SIGKILL included.
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    let (status, _) =
        node.result_of(&pod, requests::script("segv", "sh -c 'kill -11 $$'; exit $?")).await;
    assert_eq!(status.exit_code, 139);

    let mut hungry = requests::script("hungry", "x=$(tail /dev/zero)");
    requests::resources(&mut hungry).memory_limit_in_bytes = 20 << 20;
    // The shell survives its child's end; as the first process itself it does not.
    hungry.command = ["tail", "/dev/zero"].map(str::to_owned).into();
    let (status, _) = node.result_of(&pod, hungry).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("cannot").await;
    for (name, command, words) in [
        ("missing", "no-such-program", "not found in $PATH"),
        ("path", "/bin/no-such-program", "no such file"),
        ("mode", "not-executable", "permission denied"),
        ("format", "no-format", "exec format error"),
        ("directory", "/etc", "permission denied"),
    ] {
        let mut config = requests::script(name, "");
        config.command = vec![command.to_owned()];
        let id = node.create(&pod, config).await.unwrap();
        let error = node.start_container(&id).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(words), "{error}");
        assert!(error.message().contains(command), "{error}");
        let status = node.status(&id).await.unwrap();
        assert_eq!(status.state, i32::from(v1::ContainerState::ContainerExited));
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert!(status.message.contains(words), "{}", status.message);
        node.remove(&id).await.unwrap();
    }
    // The pod is as good as before.
    let (status, log) = node.result_of(&pod, requests::script("fine", "echo fine")).await;
    assert_eq!((status.exit_code, log.as_str()), (0, "fine"));
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn stop_asks_first_and_then_kills() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("stop").await;
    let polite = requests::script(
        "polite",
        "trap 'echo bye; exit 7' TERM; echo ready; while :; do usleep 10000; done",
    );
    let log = node.container_log(&polite);
    let id = node.launch(&pod, polite).await;
    eventually("it is ready", async || log_texts(&log, "stdout") == ["ready"]).await;
    node.stop(&id, 30).await.unwrap();
    node.stop(&id, 30).await.unwrap();
    let status = node.status(&id).await.unwrap();
    assert_eq!(status.exit_code, 7);
    assert_eq!(log_texts(&log, "stdout"), ["ready", "bye"]);

    let mut own =
        requests::script("own", "trap 'exit 8' USR1; echo ready; while :; do usleep 10000; done");
    own.stop_signal = v1::Signal::Sigusr1.into();
    let log = node.container_log(&own);
    let id = node.launch(&pod, own).await;
    eventually("it is ready", async || log_texts(&log, "stdout") == ["ready"]).await;
    node.stop(&id, 30).await.unwrap();
    let status = node.status(&id).await.unwrap();
    assert_eq!((status.exit_code, status.stop_signal), (8, i32::from(v1::Signal::Sigusr1)));

    let stubborn =
        requests::script("stubborn", "trap '' TERM; echo ready; while :; do usleep 10000; done");
    let log = node.container_log(&stubborn);
    let id = node.launch(&pod, stubborn).await;
    eventually("it is ready", async || log_texts(&log, "stdout") == ["ready"]).await;
    let mut long = node.runtime.clone();
    let request = v1::StopContainerRequest { container_id: id.clone(), timeout: 3600 };
    let long = tokio::spawn(async move { long.stop_container(request).await });
    // While it is being stopped everything else still works, and a shorter stop shortens.
    assert_eq!(node.output(&id, "echo alive").await, "alive");
    node.stop(&id, 0).await.unwrap();
    long.await.unwrap().unwrap();
    assert_eq!(node.status(&id).await.unwrap().exit_code, 137);
    node.stop("0123456789", 1).await.unwrap();
}

#[tokio::test]
async fn commands_run_inside() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("exec").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let response = node.exec(&id, "echo out; echo err >&2; exit 5", 10).await.unwrap();
    assert_eq!((&*response.stdout, &*response.stderr), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(response.exit_code, 5);
    assert_eq!(node.output(&id, "echo $FROM_IMAGE; pwd").await, "yes\n/home");

    // An answer has a limit, which is no failure.
    let response = node.exec(&id, "dd if=/dev/zero bs=1M count=17 2>/dev/null", 60).await.unwrap();
    assert!((15 << 20..16 << 20).contains(&response.stdout.len()), "{}", response.stdout.len());
    assert_eq!(response.exit_code, 0);

    // A child that keeps the pipe open holds nobody up.
    let response = node.exec(&id, "echo done; sleep 500 & exit 0", 20).await.unwrap();
    assert_eq!(&*response.stdout, b"done\n");

    let error = node.exec(&id, "(sleep 600 &); sleep 700", 1).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    eventually("all that it started is killed", async || {
        let processes = node.output(&id, "ps").await;
        !processes.contains("sleep 600") && !processes.contains("sleep 700")
    })
    .await;
    assert!(node.output(&id, "ps").await.contains("sleep 500"), "what ended in time is left alone");

    let mut request = v1::ExecSyncRequest { container_id: id.clone(), ..Default::default() };
    let error = node.runtime.exec_sync(request.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    request.cmd = vec!["no-such-program".to_owned()];
    let error = node.runtime.exec_sync(request).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("no-such-program"), "{error}");
    assert_eq!(node.exec("0123", "true", 1).await.unwrap_err().code(), Code::NotFound);
    node.stop(&id, 0).await.unwrap();
    assert_eq!(node.exec(&id, "true", 1).await.unwrap_err().code(), Code::FailedPrecondition);
    node.remove_pod(&pod).await.unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn many_commands_leave_nothing() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("probes").await;
    let id = node.launch(&pod, requests::script("c", "sleep 1000")).await;
    let monitor = node.monitors()[0];
    let count = |directory: &str, pid: i32| {
        fs::read_dir(format!("/proc/{pid}/{directory}")).unwrap().count()
    };
    node.output(&id, "true").await;
    // The answer comes before the cgroup of the exec is taken away.
    let execs = |node: &Node| {
        leaks::traces(node).cgroups.iter().filter(|path| path.contains("/exec-")).count()
    };
    eventually("no exec is left", async || execs(&node) == 0).await;
    let before = count("fd", monitor);
    let fds_of_daemon = count("fd", node.daemon_pid() as i32);
    for _ in 0..200 {
        node.output(&id, "true").await;
    }
    eventually("no exec is left", async || execs(&node) == 0).await;
    assert_eq!(count("fd", monitor), before);
    assert!(count("fd", node.daemon_pid() as i32) <= fds_of_daemon + 3);
}

#[tokio::test]
async fn logs_survive_rotation() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("logs").await;
    let config = requests::script("c", "for i in $(seq 20000); do echo line-$i; done; printf end");
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    let mut parts = Vec::new();
    for part in 0..5 {
        let rotated = log.with_extension(format!("{part}"));
        fs::rename(&log, &rotated).unwrap();
        let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
        match node.runtime.reopen_container_log(request).await {
            Ok(_) => parts.push(rotated),
            // It has ended meanwhile.
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition);
                fs::rename(&rotated, &log).unwrap();
                break;
            }
        }
    }
    node.end_of(&id).await;
    parts.push(log);
    let texts: Vec<String> = parts.iter().flat_map(|part| log_texts(part, "stdout")).collect();
    let expected = (1..=20_000).map(|i| format!("line-{i}")).chain(["end".to_owned()]);
    assert!(texts.iter().cloned().eq(expected), "{} lines", texts.len());
    // It may have ended before the last rotation, which then left an empty file.
    let whole: String = parts.iter().map(|part| fs::read_to_string(part).unwrap()).collect();
    assert!(whole.trim_end().ends_with(" stdout P end"), "{} bytes", whole.len());
}

#[tokio::test]
async fn processes_are_who_they_should_be() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("users").await;
    let show =
        "id -u; id -g; id -G; cat /proc/self/status | grep -E 'CapEff|CapBnd|CapInh|NoNewPrivs'";
    let (_, root) = node.result_of(&pod, requests::script("root", show)).await;
    assert!(root.starts_with("0\n0\n0\n"), "{root}");
    assert!(root.contains("CapInh:\t0000000000000000"), "{root}");
    assert!(root.contains("CapEff:\t00000000a80425fb"), "{root}");

    let mut named = requests::script("named", show);
    requests::security(&mut named).run_as_username = "user".to_owned();
    requests::security(&mut named).supplemental_groups = vec![77];
    requests::security(&mut named).no_new_privs = true;
    let (status, text) = node.result_of(&pod, named.clone()).await;
    assert!(text.starts_with("1000\n1000\n1000 77 50000\n"), "{text}");
    assert!(
        text.contains("CapEff:\t0000000000000000") && text.contains("NoNewPrivs:\t1"),
        "{text}"
    );
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 1000, vec![1000, 50000, 77]));

    named.metadata.as_mut().unwrap().name = "strict".to_owned();
    named.log_path = "strict.log".to_owned();
    requests::security(&mut named).supplemental_groups_policy =
        v1::SupplementalGroupsPolicy::Strict.into();
    let (_, text) = node.result_of(&pod, named).await;
    assert!(text.starts_with("1000\n1000\n1000 77\n"), "{text}");

    let mut few = requests::script("few", "grep CapBnd /proc/self/status; cat /etc/secret");
    requests::security(&mut few).capabilities = Some(v1::Capability {
        add_capabilities: vec!["NET_ADMIN".to_owned()],
        drop_capabilities: vec!["ALL".to_owned()],
        ..Default::default()
    });
    let (_, text) = node.result_of(&pod, few).await;
    assert_eq!(text, "CapBnd:\t0000000000001000\nsecret");

    let mut ambient = requests::script("ambient", "grep CapEff /proc/self/status");
    requests::security(&mut ambient).run_as_user = Some(v1::Int64Value { value: 1000 });
    requests::security(&mut ambient).capabilities = Some(v1::Capability {
        add_ambient_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        ..Default::default()
    });
    let (_, text) = node.result_of(&pod, ambient).await;
    assert_eq!(text, "CapEff:\t0000000000000400");
}

#[tokio::test]
async fn nothing_of_the_host_can_be_reached() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("walls").await;
    let script = "
        ls /proc/self/fd | tr '\\n' ' '; echo
        cat /proc/kcore | wc -c
        touch /proc/sys/kernel/x 2>/dev/null || echo proc-sys-read-only
        echo 1 > /proc/sysrq-trigger 2>/dev/null || echo sysrq-read-only
        ls /sys/firmware | wc -l
        touch /sys/x 2>/dev/null || echo sys-read-only
        touch /sys/fs/cgroup/x 2>/dev/null || echo cgroup-read-only
        mount -t tmpfs none /tmp 2>/dev/null || echo no-mount
        mknod /tmp/sda b 8 0 && (cat /tmp/sda >/dev/null 2>&1 || echo no-disk)
        grep -c . /proc/mounts > /dev/null && grep -q criquet-test /proc/self/mountinfo && echo leak || echo no-host-path-mounts
        grep Seccomp: /proc/self/status";
    let mut config = requests::script("c", script);
    requests::security(&mut config).seccomp = Some(v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
        ..Default::default()
    });
    let (_, text) = node.result_of(&pod, config).await;
    for line in [
        "0 1 2 3 ",
        "proc-sys-read-only",
        "sysrq-read-only",
        "sys-read-only",
        "cgroup-read-only",
        "no-mount",
        "no-disk",
        "Seccomp:\t2",
    ] {
        assert!(text.lines().any(|other| other == line), "{line:?} in {text}");
    }
}

#[tokio::test]
async fn mounts_do_what_they_say() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("mounts").await;
    let host = node.path("volume");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "content\n").unwrap();
    fs::set_permissions(&host, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mount = |container_path: &str, options: &[&str], readonly| v1::Mount {
        container_path: container_path.to_owned(),
        host_path: host.display().to_string(),
        readonly,
        mount_options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Default::default()
    };
    let mut config = requests::script(
        "c",
        "cat /ro/file; touch /ro/x 2>/dev/null || echo ro; touch /rw/made && echo rw;
         cp=/rw/busybox; cat /bin/busybox > $cp; chmod 755 $cp; $cp true 2>/dev/null && echo ran; /noexec/busybox true 2>/dev/null || echo noexec;
         touch /etc/x 2>/dev/null || echo root-ro; touch /dev/shm/x && echo shm-rw; cat /one",
    );
    config.mounts = vec![
        mount("/ro", &[], true),
        mount("/rw", &[], false),
        mount("/noexec", &["noexec", "nosuid"], false),
    ];
    config.mounts.push(v1::Mount {
        container_path: "/one".to_owned(),
        host_path: host.join("file").display().to_string(),
        ..Default::default()
    });
    requests::security(&mut config).readonly_rootfs = true;
    let (_, text) = node.result_of(&pod, config).await;
    assert_eq!(text, "content\nro\nrw\nran\nnoexec\nroot-ro\nshm-rw\ncontent");
    assert!(host.join("made").exists());
}

#[tokio::test]
async fn limits_hold_and_change() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("limits").await;
    let mut config = requests::script("c", "sleep 1000");
    *requests::resources(&mut config) = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    };
    let id = node.launch(&pod, config).await;
    let memory = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    let quota = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    assert_eq!(node.output(&id, memory).await, (64 << 20).to_string());
    assert!(node.output(&id, quota).await.starts_with("50000"));
    let update = |memory_limit_in_bytes| v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(v1::LinuxContainerResources {
            memory_limit_in_bytes,
            cpu_quota: 70_000,
            ..Default::default()
        }),
        ..Default::default()
    };
    node.runtime.update_container_resources(update(128 << 20)).await.unwrap();
    assert_eq!(node.output(&id, memory).await, (128 << 20).to_string());
    assert!(node.output(&id, quota).await.starts_with("70000"));
    let resources = node.status(&id).await.unwrap().resources.unwrap().linux.unwrap();
    assert_eq!((resources.memory_limit_in_bytes, resources.cpu_shares), (128 << 20, 512));

    // A value that is refused changes none of the others.
    let mut wrong = update(32 << 20);
    wrong.linux.as_mut().unwrap().cpuset_cpus = "9999".to_owned();
    let error = node.runtime.update_container_resources(wrong).await.unwrap_err();
    assert!(!error.message().is_empty());
    assert_eq!(node.output(&id, memory).await, (128 << 20).to_string());
    assert!(node.output(&id, quota).await.starts_with("70000"));
}

#[tokio::test]
async fn a_terminal_is_the_containers_own() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("terminal").await;
    let mut config = requests::script(
        "c",
        "test -t 0 && test -t 1 && echo tty; echo $TERM; stat -c %t:%T /dev/console; ls /dev/pts",
    );
    config.tty = true;
    let (status, text) = node.result_of(&pod, config).await;
    assert_eq!(status.exit_code, 0, "{text}");
    let lines: Vec<_> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    assert_eq!(lines[..2], ["tty", "xterm"], "{text}");
    assert!(lines[2].starts_with("88:"), "{text}");
}

#[tokio::test]
async fn an_ended_container_tells_at_once() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("many").await;
    for round in 0..20 {
        let (status, text) =
            node.result_of(&pod, requests::script(&format!("c{round}"), "echo last words")).await;
        assert_eq!((status.exit_code, text.as_str()), (0, "last words"), "round {round}");
    }
    tokio::time::timeout(Duration::from_secs(20), node.remove_pod(&pod)).await.unwrap().unwrap();
    leaks::assert_nothing_left(&node).await;
}

#[tokio::test]
async fn a_container_can_have_hundreds_of_devices() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("devices").await;
    let mut config = requests::script("c", "echo x > /dev/n699 && ls /dev | grep -c '^n[0-9]'");
    config.devices = (0..700)
        .map(|number| v1::Device {
            container_path: format!("/dev/n{number}"),
            host_path: "/dev/null".to_owned(),
            permissions: "rw".to_owned(),
        })
        .collect();
    let (status, text) = node.result_of(&pod, config).await;
    assert_eq!((status.exit_code, text.trim()), (0, "700"));
}

#[tokio::test]
async fn the_environment_is_bytes() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("bytes").await;
    let variable =
        |key: &str, value: &[u8]| v1::KeyValue { key: key.to_owned(), value: value.to_vec() };
    let mut config = requests::script("c", "sleep 1000");
    config.envs = vec![
        variable("RAW", b"x\xff\xfe=y"),
        variable("TWICE", b"\xff"),
        variable("TWICE", b"text"),
        variable("FROM_IMAGE", b"\xe4"),
        variable("TEXT", "\u{fffd}".as_bytes()),
    ];
    let id = node.launch(&pod, config).await;
    // Of the program itself, and of a command beside it, also after a restart of the daemon.
    for _ in 0..2 {
        for script in ["cat /proc/1/environ", "cat /proc/self/environ"] {
            let output = node.exec(&id, script, 30).await.unwrap().stdout;
            let has = |variable: &[u8]| output.split(|b| *b == 0).any(|other| other == variable);
            assert!(has(b"RAW=x\xff\xfe=y") && has(b"FROM_IMAGE=\xe4"), "{output:?}");
            assert!(has(b"TWICE=text") && has(b"TEXT=\xef\xbf\xbd"), "{output:?}");
        }
        node.kill_daemon();
        node.start_daemon().await;
    }
    let mut zero = requests::script("zero", "true");
    zero.envs = vec![variable("A", b"\xff\0")];
    let error = node.create(&pod, zero).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("envs") && error.message().contains("zero byte"), "{error}");
}
