//! Terminals of containers.

use criquet::monitor::v1;

use crate::{
    pod::{Pod, eventually},
    requires_root,
};

/// What systemd and getty do: nobody has the terminal open for a while.
#[tokio::test]
async fn a_terminal_that_is_opened_again_is_read_again() {
    requires_root!();
    let mut pod = Pod::start().await;
    let request = v1::Start { terminal: true, ..pod.request("c") };
    let script = "t=$(tty); echo first; exec </dev/null >/dev/null 2>&1; \
                  for n in 1 2 3; do sleep 0.2; echo again-$n > $t; done; exit 5";
    pod.run_as(request, script).await.unwrap();
    assert_eq!(pod.exited().await.exit_code, 5);
    let log = pod.log("c");
    for words in ["first", "again-1", "again-2", "again-3"] {
        assert!(log.contains(words), "{log}");
    }
}

/// A monitor that looked without a pause would use a processor.
#[tokio::test]
async fn a_terminal_that_stays_closed_costs_nothing() {
    requires_root!();
    let pod = Pod::start().await;
    let request = v1::Start { terminal: true, ..pod.request("c") };
    let script = "echo first; exec </dev/null >/dev/null 2>&1; sleep 1000";
    pod.run_as(request, script).await.unwrap();
    eventually(|| pod.log("c").contains("first")).await;
    let before = turns(&pod);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let more = turns(&pod) - before;
    assert!(more < 100, "woken {more} times in a second");
}

/// How often the monitor has waited (proc_pid_status(5)).
fn turns(pod: &Pod) -> u64 {
    let pid = pod.pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |field: &str| -> u64 {
        let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        value.trim().parse().unwrap()
    };
    of("voluntary_ctxt_switches:") + of("nonvoluntary_ctxt_switches:")
}
