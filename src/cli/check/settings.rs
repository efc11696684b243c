//! Settings of the kernel that the kubelet has an opinion about.

use std::fs;

use super::finding::Finding;

/// What the kubelet sets, or with `protectKernelDefaults` wants to find. More is as good where
/// the setting is a limit.
const WANTED: [(&str, u64, bool); 6] = [
    ("kernel.keys.root_maxbytes", 25_000_000, true),
    ("kernel.keys.root_maxkeys", 1_000_000, true),
    ("kernel.panic", 10, false),
    ("kernel.panic_on_oops", 1, false),
    ("vm.overcommit_memory", 1, false),
    ("vm.panic_on_oom", 0, false),
];

/// Everything about settings.
pub(super) fn survey() -> Vec<Finding> {
    let read = |name: &str| {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok())
    };
    vec![judge_settings(read), judge_swap(&fs::read_to_string("/proc/swaps").unwrap_or_default())]
}

fn judge_settings(read: impl Fn(&str) -> Option<u64>) -> Finding {
    let what = "kernel settings";
    let mut found = Vec::new();
    let mut wanted = Vec::new();
    for (name, value, is_limit) in WANTED {
        match read(name) {
            Some(now) if now == value || is_limit && now > value => {}
            Some(now) => {
                found.push(format!("{name}={now}"));
                wanted.push(format!("{name}={value}"));
            }
            // A kernel without keys, for one.
            None => {}
        }
    }
    if found.is_empty() {
        return Finding::ok(what, "as the kubelet wants them");
    }
    let mend = format!(
        "the kubelet sets {} itself, and with protectKernelDefaults: true does not start; write \
         them into /etc/sysctl.d",
        wanted.join(" ")
    );
    Finding::warn(what, found.join(" "), mend)
}

fn judge_swap(table: &str) -> Finding {
    let what = "swap";
    // The first line has the names of the columns.
    let places: Vec<&str> =
        table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if places.is_empty() {
        return Finding::ok(what, "none");
    }
    Finding::warn(
        what,
        places.join(", "),
        "the kubelet needs failSwapOn: false to start, and memorySwap.swapBehavior: LimitedSwap for \
         pods to use it, which needs cgroup version 2; or turn it off (swapoff -a, /etc/fstab)",
    )
}

#[cfg(test)]
mod tests {
    use super::{WANTED, judge_settings, judge_swap};
    use crate::cli::check::Status;

    #[test]
    fn settings_are_as_the_kubelet_wants_them() {
        let wanted = |name: &str| WANTED.iter().find(|(one, ..)| *one == name).map(|one| one.1);
        assert_eq!(judge_settings(wanted).status, Status::Ok);
        assert_eq!(judge_settings(|_| None).status, Status::Ok);
        let more = |name: &str| wanted(name).map(|value| value + u64::from(name.contains("keys")));
        assert_eq!(judge_settings(more).status, Status::Ok);
        let finding = judge_settings(|name| match name {
            "kernel.panic" => Some(0),
            other => wanted(other),
        });
        assert_eq!(finding.status, Status::Warn);
        assert_eq!(finding.found, "kernel.panic=0");
        assert!(finding.mend.contains("kernel.panic=10"), "{finding:?}");
    }

    #[test]
    fn swap_is_told_by_its_place() {
        let head = "Filename\tType\tSize\tUsed\tPriority\n";
        assert_eq!(judge_swap(head).status, Status::Ok);
        let finding = judge_swap(&format!("{head}/dev/sda2 partition 1 0 -2\n/swap file 1 0 -3\n"));
        assert_eq!((finding.status, finding.found.as_str()), (Status::Warn, "/dev/sda2, /swap"));
    }
}
