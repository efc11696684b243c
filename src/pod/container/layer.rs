//! Writable layers as projects of their file system, where it counts those (`sys::quota`): what
//! a container has written is known without a walk, and a limit of it holds.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::AsFd,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing::warn;

use crate::{
    pod::{
        error::{During, Error, Reason},
        id::ContainerId,
        options::Options,
    },
    quantity,
    spec::{self, config::Map},
    sys::{
        quota::{self, Support},
        tree::Usage,
    },
};

/// The annotation of a pod that limits the layer of each of its containers; with a dot and a
/// container's name after it, that of this one alone. A quantity of Kubernetes.
pub const ANNOTATION: &str = "io.criquet.writable-layer-limit";

/// Projects of containers: this one and the 2^24 - 1 after it, away from those that the
/// kubelet gives to volumes and others to their own trees.
const FIRST: u32 = 0x4300_0000;
const COUNT: u32 = 1 << 24;

/// The projects of all layers.
pub(in crate::pod) struct Layers {
    root: Option<File>,
    support: Support,
    // Held for a look-up or a change of the map.
    owners: Mutex<BTreeMap<u32, ContainerId>>,
}

impl Layers {
    /// The layers below the root of these options. Waits for the disk.
    pub(in crate::pod) fn open(options: &Options) -> Self {
        let root = File::open(&options.root).ok();
        let support = root.as_ref().map_or(Support::None, |root| quota::support(root.as_fd()));
        if options.writable_layer_limit > 0 && support != Support::Enforced {
            warn!(
                root = %options.root.display(),
                "writable_layer_limit cannot hold: mount the file system of root with prjquota \
                 (ext4 also wants the features quota and project)"
            );
        }
        Self { root, support, owners: Mutex::default() }
    }

    fn owners(&self) -> MutexGuard<'_, BTreeMap<u32, ContainerId>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what an earlier daemon has given.
    pub(in crate::pod) fn know(&self, id: &ContainerId, project: Option<u32>) {
        if let Some(project) = project {
            self.owners().insert(project, id.clone());
        }
    }

    /// How many bytes a container may write, as the pod's annotations and the node say; 0 for
    /// any number.
    ///
    /// # Errors
    /// An annotation that is no quantity, or that this node cannot hold.
    pub(in crate::pod) fn limit_of(
        &self,
        options: &Options,
        annotations: &Map,
        name: &str,
    ) -> Result<u64, Error> {
        let of_node = options.writable_layer_limit;
        let own = format!("{ANNOTATION}.{name}");
        let Some((key, text)) =
            annotations.get_key_value(&own).or_else(|| annotations.get_key_value(ANNOTATION))
        else {
            return Ok(of_node);
        };
        let wanted = quantity::whole(text).filter(|bytes| *bytes > 0).ok_or_else(|| {
            let reason = format!("{key} is {text:?}; write a number of bytes such as 500M or 2Gi");
            spec::Error::invalid("annotations", reason)
        })?;
        if self.support != Support::Enforced {
            return Err(Reason::NoQuota { annotation: key.clone() }.into());
        }
        // A pod may ask for less than the node gives, and for no more.
        Ok(if of_node > 0 { wanted.min(of_node) } else { wanted })
    }

    /// Makes a project of these directories, which are empty yet, and limits it; none where the
    /// file system has none.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(in crate::pod) fn make(
        &self,
        id: &ContainerId,
        directories: &[&Path],
        limit: u64,
    ) -> Result<Option<u32>, Error> {
        let Some(root) = self.root.as_ref().filter(|_| self.support != Support::None) else {
            return Ok(None);
        };
        let project = self.take(id);
        for path in directories {
            File::open(path)
                .and_then(|directory| quota::set_project(directory.as_fd(), project))
                .during("make a project of", path)?;
        }
        if self.support == Support::Enforced {
            let limited = quota::limit(root.as_fd(), project, limit);
            limited.during("limit a project for", Path::new(id.as_str()))?;
        }
        Ok(Some(project))
    }

    /// A number that no other layer has.
    fn take(&self, id: &ContainerId) -> u32 {
        let wanted = u32::from_str_radix(id.as_str().get(..6).unwrap_or_default(), 16);
        let wanted = wanted.unwrap_or_default();
        let mut owners = self.owners();
        let mut candidates = (0..COUNT).map(|step| FIRST + (wanted + step) % COUNT);
        let free = candidates.find(|project| !owners.contains_key(project)).unwrap_or(FIRST);
        owners.insert(free, id.clone());
        free
    }

    /// Lets go of a container's project; what is left of its layer is counted and not limited.
    pub(in crate::pod) fn release(&self, id: &ContainerId) {
        let mut owners = self.owners();
        let Some(project) = owners.iter().find(|(_, owner)| *owner == id).map(|(p, _)| *p) else {
            return;
        };
        owners.remove(&project);
        drop(owners);
        if let Some(root) = self.root.as_ref().filter(|_| self.support == Support::Enforced)
            && let Err(error) = quota::limit(root.as_fd(), project, 0)
        {
            warn!(container.id = %id, %error, "the limit of its layer stays");
        }
    }

    /// What a project takes; nothing where the file system does not say.
    pub(in crate::pod) fn usage(&self, project: Option<u32>) -> Option<Usage> {
        quota::usage(self.root.as_ref()?.as_fd(), project?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ANNOTATION, COUNT, FIRST, Layers, Support};
    use crate::{
        kind::Kind,
        pod::{id::ContainerId, options::Options},
        spec::config::Map,
    };

    fn layers(support: Support) -> Layers {
        Layers { root: None, support, owners: Default::default() }
    }

    fn options(limit: u64) -> Options {
        Options {
            root: Path::new("/nowhere").into(),
            state: Path::new("/nowhere").into(),
            netns_dir: Path::new("/nowhere").into(),
            cgroup_driver: Default::default(),
            cgroup_parent: Path::new("/nowhere").into(),
            rules: Default::default(),
            shm_size: 4096,
            warm_monitors: 0,
            unprivileged_ports: false,
            writable_layer_limit: limit,
            containers: Default::default(),
            selinux: false,
            selinux_category_range: 2,
        }
    }

    #[test]
    fn a_pod_may_ask_for_less_than_the_node_gives() {
        let layers = layers(Support::Enforced);
        let annotations: Map = [
            (ANNOTATION.to_owned(), "1Gi".to_owned()),
            (format!("{ANNOTATION}.small"), "10M".to_owned()),
        ]
        .into();
        let limit = |node: u64, annotations: &Map, name: &str| {
            layers.limit_of(&options(node), annotations, name).unwrap()
        };
        assert_eq!(limit(0, &Map::new(), "c"), 0);
        assert_eq!(limit(7, &Map::new(), "c"), 7);
        assert_eq!(limit(0, &annotations, "c"), 1 << 30);
        assert_eq!(limit(0, &annotations, "small"), 10_000_000);
        assert_eq!(limit(4096, &annotations, "c"), 4096);
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        let one = |text: &str| Map::from([(ANNOTATION.to_owned(), text.to_owned())]);
        let kind = |support, text: &str| {
            layers(support).limit_of(&options(0), &one(text), "c").unwrap_err().kind()
        };
        assert_eq!(kind(Support::Counted, "1Gi"), Kind::FailedPrecondition);
        assert_eq!(kind(Support::Enforced, "much"), Kind::InvalidArgument);
        assert_eq!(kind(Support::Enforced, "0"), Kind::InvalidArgument);
    }

    #[test]
    fn no_two_layers_have_the_same_project() {
        let layers = layers(Support::Counted);
        let id = |text: &str| ContainerId::from(text.to_owned());
        assert_eq!(layers.take(&id("00000a1")), FIRST + 10);
        assert_eq!(layers.take(&id("00000a2")), FIRST + 11);
        assert_eq!(layers.take(&id("ffffff3")), FIRST + COUNT - 1);
        assert_eq!(layers.take(&id("ffffff4")), FIRST);
        layers.release(&id("00000a1"));
        assert_eq!(layers.take(&id("00000a5")), FIRST + 10);
    }
}
