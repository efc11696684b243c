//! What earlier daemons left: attachments of pods that are gone, by the database and by the
//! files of results, and what plugins know of no attachment.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    super::Error,
    Cni, aside,
    attachment::Attachment,
    cache::Entry,
    chain::{configuration, environment_of, kind_of},
    list::NetworkList,
};
use crate::kind::chain as chain_of;

impl Cni {
    /// Detaches all pods of earlier daemons but the living, side by side, and tells plugins
    /// which attachments are valid.
    pub(in super::super) async fn collect_garbage(
        &self,
        live: &HashSet<String>,
    ) -> Result<(), Error> {
        self.earlier_plugins_have_ended().await;
        let dead = self.earlier.iter().filter(|sandbox| !live.contains(*sandbox));
        let detached = join_all(dead.map(|sandbox| self.detach(sandbox, None))).await;
        let mut outcome = detached.into_iter().collect::<Result<(), _>>();
        let cache = self.cache.clone();
        // A pod that comes now is recorded before it has a file.
        let entries = aside(move || cache.entries()).await?;
        let all = self.attachments().await?;
        outcome = outcome.and(self.collect_unrecorded(live, &entries, &all).await);
        for list in self.networks().await.unwrap_or_default() {
            outcome = outcome.and(self.collect_list(&list, &all, &entries).await);
        }
        outcome
    }

    /// Detaches pods of which nothing is known but the files of their results, as after the
    /// loss of the database, by what those say; never those of another daemon.
    async fn collect_unrecorded(
        &self,
        live: &HashSet<String>,
        entries: &[Entry],
        all: &[(String, Attachment)],
    ) -> Result<(), Error> {
        let recorded: HashSet<&str> = all.iter().map(|(sandbox, _)| sandbox.as_str()).collect();
        let is_unknown = |entry: &&Entry| {
            let sandbox = &entry.container_id;
            !live.contains(sandbox) && !recorded.contains(sandbox.as_str())
        };
        let own = entries.iter().filter(|entry| self.cache.is_own(entry));
        let mut pods: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in own.filter(is_unknown) {
            pods.entry(&entry.container_id).or_default().push(entry);
        }
        let detached = join_all(pods.into_values().map(|pod| self.detach_unrecorded(pod))).await;
        detached.into_iter().collect()
    }

    /// The networks of one pod. What fails is tried again by the next daemon.
    async fn detach_unrecorded(&self, mut pod: Vec<&Entry>) -> Result<(), Error> {
        // As they were attached, backwards.
        pod.sort_by(|one, other| other.if_name.cmp(&one.if_name));
        let mut outcome = Ok(());
        for entry in pod {
            let (sandbox, network) = (&entry.container_id, &entry.network_name);
            let Some(attached) = entry.attached() else {
                tracing::warn!(
                    sandbox.id = sandbox,
                    network,
                    "the configuration in the file of this result cannot be read"
                );
                continue;
            };
            let environment = environment_of(sandbox, &attached.interface, "", entry.arguments());
            let mut removed = self.remove(&attached, &entry.values(), &environment).await;
            if removed.is_ok() {
                let (cache, sandbox) = (self.cache.clone(), sandbox.clone());
                removed = aside(move || cache.remove(&sandbox, &attached)).await;
            }
            match &removed {
                Ok(()) => tracing::info!(
                    sandbox.id = sandbox,
                    network,
                    "a network of a pod that the database did not know is taken down"
                ),
                Err(error) => tracing::warn!(sandbox.id = sandbox, network,
                    error = %chain_of(error), "a network of a pod that the database does not \
                     know is not taken down; the next start of the daemon tries it again"),
            }
            outcome = outcome.and(removed);
        }
        outcome
    }

    async fn collect_list(
        &self,
        list: &NetworkList,
        all: &[(String, Attachment)],
        entries: &[Entry],
    ) -> Result<(), Error> {
        if list.disable_gc || !list.speaks("1.1.0") {
            return Ok(());
        }
        let recorded = all.iter().flat_map(|(sandbox, attachment)| {
            let of_list =
                attachment.networks.iter().filter(|attached| attached.list.name == list.name);
            of_list.map(move |attached| (sandbox, &attached.interface))
        });
        // Other programs on this node may have pods on the same network.
        let others = entries
            .iter()
            .filter(|entry| !self.cache.is_own(entry) && entry.network_name == list.name)
            .map(|entry| (&entry.container_id, &entry.if_name));
        let valid: Vec<Value> = recorded
            .chain(others)
            .map(|(sandbox, interface)| json!({"containerID": sandbox, "ifname": interface}))
            .collect();
        let call = self.call("GC", &[]).await;
        let mut outcome = Ok(());
        for plugin in &list.plugins {
            let mut configuration = configuration(list, plugin, None);
            if let Some(object) = configuration.as_object_mut() {
                object.insert("cni.dev/valid-attachments".to_owned(), json!(valid));
            }
            // Each has something of its own to collect, whatever the others say.
            let collected = call.execute_if_known(kind_of(plugin), &configuration).await;
            outcome = outcome.and(collected);
        }
        outcome
    }
}
