//! What is said of a container that ran out of memory.

use crate::monitor::record::ExitRecord;

/// Who was killed for want of memory, for people.
pub(super) fn message(exit: &ExitRecord) -> String {
    let others = exit.oom_kills.saturating_sub(u64::from(exit.oom_killed_init));
    let processes = if others == 1 { "process" } else { "processes" };
    match (exit.oom_killed_init, others) {
        // By a monitor of an earlier release.
        (false, 0) => String::new(),
        (true, 0) => "the kernel killed the main process: the container was out of memory".into(),
        (true, others) => format!(
            "the kernel killed the main process and {others} other {processes}: the container \
             was out of memory"
        ),
        (false, others) => format!(
            "the kernel killed {others} {processes} other than the main one, which ended with \
             exit code {}: the container was out of memory",
            exit.exit_code
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::message;
    use crate::monitor::record::ExitRecord;

    #[test]
    fn it_is_said_who_was_killed() {
        let with = |oom_kills, oom_killed_init| ExitRecord {
            oom_killed: true,
            oom_kills,
            oom_killed_init,
            ..ExitRecord::new(7, 1)
        };
        assert_eq!(message(&with(0, false)), "", "a monitor that does not tell");
        for (exit, words) in [
            (with(1, true), "killed the main process:"),
            (with(2, true), "the main process and 1 other process:"),
            (with(3, true), "the main process and 2 other processes:"),
            (with(1, false), "1 process other than the main one, which ended with exit code 7"),
            (with(2, false), "2 processes other than the main one"),
        ] {
            assert!(message(&exit).contains(words), "{}", message(&exit));
        }
    }
}
