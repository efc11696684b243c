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

impl<'a> Labels<'a> {
    /// The value for a key; that of one that is not here is in `more`.
    pub(super) fn value<'b>(&self, key: &str, more: &[(&str, &'b str)]) -> &'b str
    where
        'a: 'b,
    {
        match key {
            "container" => self.container,
            "id" => self.id,
            "image" => self.image,
            "name" => self.name,
            "namespace" => self.namespace,
            "pod" => self.pod,
            other => more.iter().find(|(key, _)| *key == other).map_or("", |(_, value)| value),
        }
    }
}
