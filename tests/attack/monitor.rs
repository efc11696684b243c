//! What there is to be had from the monitor and the daemon, were they led astray.

use std::{fs, path::Path};

use criquet::cri::v1;

use crate::common::{Node, requests};

/// A field of `/proc/PID/status` with a set of capabilities.
fn capabilities(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_KILL`, `CAP_SYS_PTRACE` and `CAP_SYS_ADMIN`.
const NEEDED: u64 = 1 | 1 << 1 | 1 << 5 | 1 << 19 | 1 << 21;

#[tokio::test]
async fn a_monitor_has_few_capabilities_in_force_and_its_containers_what_they_ask_for() {
    requires_root!();
    let mut node = Node::start().await;
    let mut config = requests::sandbox(&node, "p");
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
    let pod = node.run(config).await.unwrap();
    let monitor = node.monitor_of(&pod).as_raw_nonzero().get() as u32;
    assert_eq!(capabilities(monitor, "CapEff") & !NEEDED, 0);
    assert_eq!(capabilities(monitor, "CapInh"), 0);

    let mut config = requests::script("all", "exec sleep 1000");
    requests::security(&mut config).privileged = true;
    let id = node.launch(&pod, config).await;
    let all = capabilities(node.daemon_pid(), "CapPrm");
    let show = "while read name value; do case $name in CapEff:) echo $value;; esac; done \
                < /proc/self/status";
    let has = node.output(&id, show).await;
    assert_eq!(u64::from_str_radix(&has, 16).unwrap(), all, "of an exec");
    let has = node.output(&id, &show.replace("self", "1")).await;
    assert_eq!(u64::from_str_radix(&has, 16).unwrap(), all, "of the container");
    let mut config = requests::script("few", "exec sleep 1000");
    requests::security(&mut config).capabilities = Some(v1::Capability {
        drop_capabilities: vec!["ALL".to_owned()],
        add_capabilities: vec!["SYS_TIME".to_owned()],
        ..Default::default()
    });
    let id = node.launch(&pod, config).await;
    let has = node.output(&id, show).await;
    assert_eq!(u64::from_str_radix(&has, 16).unwrap(), 1 << 25, "one that the monitor lays aside");
}

/// What it does for its containers, such as writing their logs, is at the cost of their pod.
#[tokio::test]
async fn a_monitor_is_in_a_cgroup_below_its_pods() {
    requires_root!();
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("cgroup.controllers").exists() {
        eprintln!("SKIPPED: this needs cgroup v2");
        return;
    }
    let mut node = Node::start().await;
    let pod = node.pod("own").await;
    let mut config = requests::sandbox(&node, "given");
    let parent = format!("/{}/given", node.cgroup);
    config.linux.get_or_insert_default().cgroup_parent = parent.clone();
    let other = node.run(config).await.unwrap();
    let places = [
        (&pod, format!("/{}/{pod}/monitor", node.cgroup)),
        (&other, format!("{parent}/monitor-{other}")),
    ];
    for (pod, place) in places {
        let monitor = node.monitor_of(pod).as_raw_nonzero();
        let text = fs::read_to_string(format!("/proc/{monitor}/cgroup")).unwrap();
        assert_eq!(text.trim(), format!("0::{place}"));
    }
    for pod in [pod, other] {
        node.remove_pod(&pod).await.unwrap();
    }
    // The parent is whose who has named it.
    let _ = fs::remove_dir(root.join(&node.cgroup).join("given"));
    crate::common::leaks::assert_nothing_left(&node).await;
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn daemon_and_monitor_have_no_memory_that_is_written_and_executed() {
    requires_root!();
    if criquet::sys::hardening::deny_write_execute().is_err() {
        eprintln!("SKIPPED: needs Linux 6.6");
        return;
    }
    let mut node = Node::start().await;
    let pod = node.pod("p").await;
    let monitor = node.monitor_of(&pod);
    assert_eq!(tracer::memory_denials(monitor), 3, "of the monitor");
    let daemon = i32::try_from(node.daemon_pid()).unwrap();
    let daemon = rustix::process::Pid::from_raw(daemon).unwrap();
    assert_eq!(tracer::memory_denials(daemon), 3, "of the daemon");
    // Programs that compile themselves need such memory.
    let id = node.launch(&pod, requests::script("c", "exec sleep 1000")).await;
    let children =
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", monitor.as_raw_nonzero()));
    let container = children.unwrap().trim().parse().unwrap();
    let container = rustix::process::Pid::from_raw(container).unwrap();
    assert_eq!(tracer::memory_denials(container), 0, "of container {id}");
    // They go on as if nothing had been.
    assert_eq!(node.output(&id, "echo here").await, "here");
}

/// Has another process call something.
#[cfg(target_arch = "x86_64")]
mod tracer {
    use nix::{
        sys::{
            ptrace,
            wait::{WaitPidFlag, waitpid},
        },
        unistd::Pid,
    };

    /// `PR_GET_MDWE` of a process: 0 for nothing, 1 for a refusal, and 2 more where that is not
    /// inherited.
    pub(super) fn memory_denials(pid: rustix::process::Pid) -> i64 {
        loop {
            if let Some(answer) = asked(pid) {
                return answer;
            }
            std::thread::yield_now();
        }
    }

    /// None of one that does not wait in the kernel.
    fn asked(pid: rustix::process::Pid) -> Option<i64> {
        let pid = Pid::from_raw(pid.as_raw_nonzero().get());
        let wait = || waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        ptrace::attach(pid).unwrap();
        wait();
        let before = ptrace::getregs(pid).unwrap();
        // What it waits in came by an instruction of two bytes, `syscall`.
        let instruction = before.rip - 2;
        let word = ptrace::read(pid, instruction as ptrace::AddressType).unwrap();
        if word & 0xffff != 0x050f {
            ptrace::detach(pid, None).unwrap();
            return None;
        }
        let mut call = before;
        (call.rax, call.orig_rax, call.rip) = (157, u64::MAX, instruction);
        (call.rdi, call.rsi, call.rdx, call.r10, call.r8) = (66, 0, 0, 0, 0);
        ptrace::setregs(pid, call).unwrap();
        // To the entry and the end of the call.
        for _ in 0..2 {
            ptrace::syscall(pid, None).unwrap();
            wait();
        }
        let answer = ptrace::getregs(pid).unwrap().rax as i64;
        ptrace::setregs(pid, before).unwrap();
        ptrace::detach(pid, None).unwrap();
        Some(answer)
    }
}
