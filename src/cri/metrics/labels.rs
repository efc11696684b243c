//! The labels that tell whose a metric is.

/// The values that all metrics of one pod or container have.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::cri) struct Labels<'a> {
    /// The container's name; empty for a pod.
    pub(in crate::cri) container: &'a str,
    /// The cgroup.
    pub(in crate::cri) id: &'a str,
    /// The image, by a name that people know.
    pub(in crate::cri) image: &'a str,
    /// The container's id; of a pod that of its sandbox, for what is its network's.
    pub(in crate::cri) name: &'a str,
    /// The pod's namespace.
    pub(in crate::cri) namespace: &'a str,
    /// The pod's name.
    pub(in crate::cri) pod: &'a str,
}

impl Labels<'_> {
    /// The values for these keys; those that are not here are in `more`.
    pub(super) fn values(&self, keys: &[String], more: &[(&str, &str)]) -> Vec<String> {
        let own = |key: &str| match key {
            "container" => self.container,
            "id" => self.id,
            "image" => self.image,
            "name" => self.name,
            "namespace" => self.namespace,
            "pod" => self.pod,
            other => more.iter().find(|(key, _)| *key == other).map_or("", |(_, value)| value),
        };
        keys.iter().map(|key| own(key).to_owned()).collect()
    }
}
