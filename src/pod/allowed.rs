//! Annotations of pods that the administrator allows by their names, since what they ask for
//! is more than every pod should have. Others of them are passed over.

use crate::spec::config::Map;

/// The names of one thing that annotations ask for: Criquet's own, and those of CRI-O.
pub type Feature = &'static [&'static str];

/// The size of `/dev/shm`, a quantity of Kubernetes.
pub const SHM_SIZE: Feature = &["io.criquet.shm-size", "io.kubernetes.cri-o.ShmSize"];
/// Limits of processes, `NAME=SOFT:HARD` with commas between; with a dot and a container's name
/// after it, those of this one alone.
pub const ULIMITS: Feature = &["io.criquet.ulimits"];
/// The mask of new files, in octal.
pub const UMASK: Feature = &["io.criquet.umask", "io.kubernetes.cri-o.umask"];
/// Cgroups below the container's own, `true` or `false`.
pub const WRITABLE_CGROUPS: Feature =
    &["io.criquet.writable-cgroups", "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw"];

/// Addresses that CNI plugins shall give the pod, with commas between.
pub const IPS: Feature = &["io.criquet.ips"];
/// The hardware address that they shall give it.
pub const MAC: Feature = &["io.criquet.mac"];

/// What follows from system calls that the filter of a container refuses: `log` or `stop`.
pub const SECCOMP_NOTIFIER: Feature = &[
    "io.criquet.seccomp-notifier-action",
    "io.kubernetes.cri-o.seccompNotifierAction",
    "seccomp-notifier-action.crio.io",
];

/// All of them.
const FEATURES: [Feature; 7] =
    [SHM_SIZE, ULIMITS, UMASK, WRITABLE_CGROUPS, IPS, MAC, SECCOMP_NOTIFIER];

/// The names of annotations that can be allowed.
pub fn names() -> impl Iterator<Item = &'static str> {
    FEATURES.into_iter().flatten().copied()
}

/// The annotations that are allowed, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedAnnotations(pub Vec<String>);

impl AllowedAnnotations {
    /// The name and the value of the annotation that asks for something, for a container or a
    /// sandbox (whose name is empty), where it is allowed.
    pub(super) fn value<'a>(
        &self,
        annotations: &'a Map,
        feature: Feature,
        container: &str,
    ) -> Option<(&'a str, &'a str)> {
        let allowed = feature.iter().filter(|name| self.0.iter().any(|known| known == *name));
        let own = format!(".{container}");
        allowed
            .flat_map(|name| [format!("{name}{own}"), (*name).to_owned()])
            .find_map(|name| annotations.get_key_value(&name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::{AllowedAnnotations, ULIMITS, UMASK};
    use crate::spec::config::Map;

    #[test]
    fn only_what_is_allowed_counts() {
        let annotations: Map = [
            ("io.criquet.ulimits", "core=0"),
            ("io.criquet.ulimits.one", "core=1"),
            ("io.criquet.umask", "077"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let allowed = AllowedAnnotations(vec!["io.criquet.ulimits".to_owned()]);
        let value = |feature, container| {
            allowed.value(&annotations, feature, container).map(|(_, value)| value)
        };
        assert_eq!(value(ULIMITS, "one"), Some("core=1"));
        assert_eq!(value(ULIMITS, "two"), Some("core=0"));
        assert_eq!(value(UMASK, "one"), None);
    }
}
