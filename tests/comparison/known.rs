//! The differences that there are reasons for, each by the name that it has in docs/compared.md.

/// What a difference is about, or begins with, and its reason.
const KNOWN: [(&str, &str); 7] = [
    ("mount /etc/hostname", FILES),
    ("mount /etc/hosts", FILES),
    ("mount /etc/resolv.conf", FILES),
    ("mount /sys/firmware", "masks"),
    ("mount /sys/fs/cgroup", "cgroups"),
    ("namespace cgroup", "cgroups"),
    ("oom_score_adj", "OOM score"),
];

const FILES: &str = "files of the pod";

/// Why containers differ there; none where nobody knows.
pub fn reason(what: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(known, _)| what.starts_with(known)).map(|(_, reason)| *reason)
}

/// The reasons that docs/compared.md has to explain.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(_, reason)| *reason)
}
