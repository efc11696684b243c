//! Objects by id, or by the beginning of one that only one object has.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Pods,
    container::Container,
    error::{Error, Reason},
    id::{ContainerId, SandboxId},
    sandbox::{Sandbox, key_of},
};

/// What is known by id. A node that crash loops has thousands of ended containers, so that
/// those of one sandbox are not looked for among all.
#[derive(Default)]
pub(super) struct Objects {
    sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    /// By what a sandbox is asked for with.
    by_key: HashMap<String, Arc<Sandbox>>,
    containers: BTreeMap<ContainerId, Arc<Container>>,
    of_sandbox: BTreeMap<SandboxId, BTreeMap<ContainerId, Arc<Container>>>,
}

impl Objects {
    /// Adds what is read at once, in the order of ids; nothing is there yet.
    pub(super) fn add_all(&mut self, containers: Vec<Arc<Container>>) {
        let mut siblings = BTreeMap::<SandboxId, Vec<_>>::new();
        for container in &containers {
            let of_sandbox = siblings.entry(container.record().sandbox.clone()).or_default();
            of_sandbox.push((container.id.clone(), Arc::clone(container)));
        }
        // Maps of what is in order are not built one by one.
        let siblings = siblings.into_iter().map(|(id, own)| (id, own.into_iter().collect()));
        self.of_sandbox = siblings.collect();
        self.containers =
            containers.into_iter().map(|container| (container.id.clone(), container)).collect();
    }

    pub(super) fn add_sandbox(&mut self, sandbox: Arc<Sandbox>) {
        let key = key_of(&sandbox.record().config);
        self.by_key.insert(key, Arc::clone(&sandbox));
        self.sandboxes.insert(sandbox.id.clone(), sandbox);
    }

    pub(super) fn remove_sandbox(&mut self, sandbox: &Sandbox) {
        self.sandboxes.remove(&sandbox.id);
        let key = key_of(&sandbox.record().config);
        // A record that was damaged may have had the key of another one.
        if self.by_key.get(&key).is_some_and(|own| own.id == sandbox.id) {
            self.by_key.remove(&key);
        }
    }

    pub(super) fn has_sandbox(&self, id: &SandboxId) -> bool {
        self.sandboxes.contains_key(id)
    }

    pub(super) fn add_container(&mut self, container: Arc<Container>) {
        let sandbox = container.record().sandbox.clone();
        let siblings = self.of_sandbox.entry(sandbox).or_default();
        siblings.insert(container.id.clone(), Arc::clone(&container));
        self.containers.insert(container.id.clone(), container);
    }

    pub(super) fn remove_container(&mut self, container: &Container) {
        let sandbox = container.record().sandbox.clone();
        self.containers.remove(&container.id);
        if let Some(siblings) = self.of_sandbox.get_mut(&sandbox) {
            siblings.remove(&container.id);
            if siblings.is_empty() {
                self.of_sandbox.remove(&sandbox);
            }
        }
    }
}

impl Pods {
    /// All sandboxes but those that are still being made.
    pub fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.objects().sandboxes.values().cloned().collect()
    }

    /// The sandbox with the key.
    pub(super) fn sandbox_with_key(&self, key: &str) -> Option<Arc<Sandbox>> {
        self.objects().by_key.get(key).cloned()
    }

    /// All containers.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        self.objects().containers.values().cloned().collect()
    }

    /// The containers whose ids begin so, of the sandboxes whose ids begin so.
    pub fn containers_by(&self, sandbox: &str, container: &str) -> Vec<Arc<Container>> {
        let objects = self.objects();
        if sandbox.is_empty() {
            return beginning(&objects.containers, container, ContainerId::as_str)
                .cloned()
                .collect();
        }
        let own = beginning(&objects.of_sandbox, sandbox, SandboxId::as_str);
        own.flat_map(|own| beginning(own, container, ContainerId::as_str)).cloned().collect()
    }

    /// The sandboxes whose ids begin so, but those that are still being made.
    pub fn sandboxes_by(&self, id: &str) -> Vec<Arc<Sandbox>> {
        beginning(&self.objects().sandboxes, id, SandboxId::as_str).cloned().collect()
    }

    /// The containers of a sandbox.
    pub fn containers_of(&self, sandbox: &Sandbox) -> Vec<Arc<Container>> {
        let objects = self.objects();
        let siblings = objects.of_sandbox.get(&sandbox.id).map(BTreeMap::values);
        siblings.into_iter().flatten().cloned().collect()
    }

    /// The sandbox that `id` means.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidArgument` where several begin so.
    pub fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        find("sandbox", id, &self.objects().sandboxes, |key| key.as_str())
    }

    /// The container that `id` means.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidArgument` where several begin so.
    pub fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        find("container", id, &self.objects().containers, |key| key.as_str())
    }

    /// The sandbox that a container is in.
    ///
    /// # Errors
    /// `NotFound` where it is gone.
    pub fn sandbox_of(&self, container: &Container) -> Result<Arc<Sandbox>, Error> {
        let id = container.record().sandbox.clone();
        self.sandbox(id.as_str())
    }
}

/// What is known by an id that begins so.
fn beginning<'a, K: Ord + From<String>, V>(
    objects: &'a BTreeMap<K, V>,
    id: &'a str,
    text: impl Fn(&K) -> &str + 'a,
) -> impl Iterator<Item = &'a V> {
    let range = objects.range(K::from(id.to_owned())..);
    range.take_while(move |(key, _)| text(key).starts_with(id)).map(|(_, object)| object)
}

fn find<K: Ord + From<String>, V>(
    what: &'static str,
    id: &str,
    objects: &BTreeMap<K, Arc<V>>,
    text: impl Fn(&K) -> &str,
) -> Result<Arc<V>, Error> {
    if id.is_empty() {
        return Err(Error::not_found(what, id));
    }
    let key = K::from(id.to_owned());
    if let Some(object) = objects.get(&key) {
        return Ok(Arc::clone(object));
    }
    let mut matching = beginning(objects, id, text);
    match (matching.next(), matching.next()) {
        (None, _) => Err(Error::not_found(what, id)),
        (Some(object), None) => Ok(Arc::clone(object)),
        (Some(_), Some(_)) => Err(Reason::Ambiguous { what, id: id.to_owned() }.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::find;
    use crate::kind::Kind;

    #[test]
    fn short_ids_have_to_be_unique() {
        let objects: BTreeMap<String, Arc<u8>> =
            [("aa", 1), ("ab", 2), ("abc", 3)].map(|(k, v)| (k.to_owned(), Arc::new(v))).into();
        let find = |id: &str| find("container", id, &objects, |key| key.as_str());
        assert_eq!(*find("aa").unwrap(), 1);
        assert_eq!(*find("ab").unwrap(), 2);
        assert_eq!(find("a").unwrap_err().kind(), Kind::InvalidArgument);
        assert_eq!(find("b").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(find("").unwrap_err().kind(), Kind::NotFound);
    }
}
