//! What somebody has configured the daemon's process with is nothing to containers.

use crate::{
    common::{Node, requests},
    python,
};
use criquet::cri::v1;

/// Gives itself all that a process passes on, and becomes the daemon.
const PECULIAR: &str = r#"
import ctypes, os, platform, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
ioprio_set, set_mempolicy, rt_sigaction = (251, 238, 13) if x86 else (30, 237, 134)
def done(what, result):
    if result < 0: sys.exit("%s: %s" % (what, os.strerror(ctypes.get_errno())))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.umask(0o077)
os.nice(3)
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
done("ioprio", libc.syscall(ioprio_set, 1, 0, 3 << 13))
done("mempolicy", libc.syscall(set_mempolicy, 2, ctypes.byref(ctypes.c_ulong(1)), ctypes.c_ulong(65)))
done("slack", libc.prctl(29, ctypes.c_ulong(123456), 0, 0, 0))
done("pages", libc.prctl(41, ctypes.c_ulong(1), 0, 0, 0))
done("securebits", libc.prctl(28, ctypes.c_ulong(1 << 6), 0, 0, 0))
done("personality", libc.personality(0x40000))
ignore = (ctypes.c_ulong * 4)(1, 0, 0, 0)
for number in (32, 33, signal.SIGUSR1, signal.SIGTERM):
    done("signal", libc.syscall(rt_sigaction, number, ctypes.byref(ignore), None, ctypes.c_long(8)))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
os.execvp(sys.argv[1], sys.argv[1:])
"#;

/// Everything of it that can be seen from inside. `stat`: 19 is the nice value, 41 the policy.
const SHOW: &str = "echo umask $(umask)
    grep -E '^(SigBlk|SigIgn|Cpus_allowed_list|THP_enabled):' /proc/self/status
    set -- $(cat /proc/self/stat); shift 18; echo nice $1; shift 22; echo policy $1
    echo slack $(cat /proc/self/timerslack_ns) personality $(cat /proc/self/personality)
    ls -ld / | busybox cut -c1-10
    ! grep -q -E 'bind|prefer|interleave' /proc/self/numa_maps && echo memory default";

#[tokio::test]
async fn containers_have_nothing_from_the_daemon() {
    requires_root!();
    let mut node = Node::start().await;
    let pod = node.pod("ordinary").await;
    let mut expected = node.result_of(&pod, requests::script("c", SHOW)).await.1;
    node.remove_pod(&pod).await.unwrap();
    node.kill_daemon();
    node.start_daemon_through(&[&python(), "-c", PECULIAR]).await;
    let pod = node.pod("peculiar").await;
    let mut config = requests::script("peculiar", &format!("{SHOW}; sleep 1000"));
    // A secure bit of the daemon's says that nobody gets ambient ones.
    requests::security(&mut config).capabilities = Some(v1::Capability {
        add_ambient_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        ..Default::default()
    });
    // Not even root may enter what only the owner may.
    requests::security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
    let log = node.container_log(&config);
    let id = node.launch(&pod, config).await;
    let shown = || crate::common::log_texts(&log, "stdout").join("\n");
    crate::common::eventually("all is shown", async || {
        shown().lines().count() == expected.lines().count()
    })
    .await;
    // Those of an ordinary daemon depend on the machine, but for these.
    for line in ["nice 0", "policy 0", "SigIgn:\t0000000000000000", "memory default"] {
        assert!(expected.lines().any(|other| other == line), "{line:?} is not in {expected}");
    }
    expected = expected.replace("slack 0 ", "slack 50000 ");
    assert_eq!(shown(), expected);
    assert_eq!(node.output(&id, SHOW).await, expected, "an exec has more");
}
