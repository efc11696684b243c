//! Networks by CNI plugins, as nodes of Kubernetes have them.
//!
//! Entry point: [`Cni`]. It executes the chains of plugins and records what it does; the
//! files of configuration are read in `config`, one plugin is executed in `plugin`.

use std::{collections::HashSet, path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{
    Error, Options,
    request::{Addresses, PodRequest},
};
use crate::store::{Batch, Database};

use self::{
    attachment::{Attached, Attachment},
    cache::Cache,
    chain::{capabilities, configuration, kind_of},
    config::NetworkList,
    plugin::Call,
};

mod attachment;
mod cache;
mod capability;
mod chain;
mod config;
mod plugin;
pub mod survey;

/// Attachments by sandbox.
const ATTACHMENTS: &str = "networks";

/// The code of a plugin that does not know a command.
const UNKNOWN_COMMAND: u32 = 4;

/// The CNI networks of a node.
pub(super) struct Cni {
    options: Arc<Options>,
    database: Arc<Database>,
    cache: Cache,
    /// Whose attachments an earlier daemon left.
    earlier: Vec<String>,
}

impl Cni {
    pub(super) fn open(options: Arc<Options>, database: Arc<Database>) -> Result<Self, Error> {
        let cache = Cache::new(&options.cache_dir);
        let all: Vec<(String, Attachment)> =
            database.list(ATTACHMENTS).map_err(Error::store("CNI networks"))?;
        let earlier = all.into_iter().map(|(sandbox, _)| sandbox).collect();
        Ok(Self { options, database, cache, earlier })
    }

    /// The networks that are configured now; none if there is no file.
    pub(super) async fn networks(&self) -> Result<Vec<NetworkList>, Error> {
        let options = Arc::clone(&self.options);
        let read = move || config::read_directory(&options.cni_conf_dir, options.cni_max_conf);
        aside(read).await
    }

    /// Attaches a pod to the networks, or undoes everything.
    pub(super) async fn attach(
        &self,
        networks: Vec<NetworkList>,
        pod: &PodRequest,
        netns: &Path,
    ) -> Result<Addresses, Error> {
        // Before anything is recorded that would have to be undone.
        capabilities(pod)?;
        // What an earlier attempt left must not be forgotten.
        self.detach(&pod.sandbox_id, Some(netns)).await?;
        let attached =
            |(index, list)| Attached { list, interface: format!("eth{index}"), result: None };
        let mut attachment = Attachment {
            request: pod.clone(),
            netns: netns.to_string_lossy().into_owned(),
            networks: networks.into_iter().enumerate().map(attached).collect(),
        };
        self.record(&attachment).await?;
        let outcome = self.add_all(&mut attachment).await;
        if outcome.is_err()
            && let Err(error) = self.remove_all(&attachment, &attachment.netns).await
        {
            tracing::warn!(sandbox.id = pod.sandbox_id, %error,
                "cannot undo the network of a sandbox; garbage collection will try again");
        }
        outcome
    }

    /// Detaches a pod from the networks it was attached to. Without a record there is
    /// nothing to do.
    pub(super) async fn detach(&self, sandbox: &str, netns: Option<&Path>) -> Result<(), Error> {
        let recorded: Option<Attachment> =
            self.database.find(ATTACHMENTS, sandbox).await.map_err(Error::store(sandbox))?;
        let Some(attachment) = recorded else { return Ok(()) };
        // The recorded path is not used: it may lead through a process that is gone, and by
        // now to somebody else's namespace. Plugins that are given none remove what is
        // left outside of it.
        let netns = netns.filter(|netns| netns.exists());
        let netns = netns.map(|netns| netns.to_string_lossy()).unwrap_or_default();
        self.remove_all(&attachment, &netns).await
    }

    /// Whether the networks can take pods, as far as their plugins tell.
    pub(super) async fn status(&self, networks: &[NetworkList]) -> Result<(), Error> {
        for list in networks.iter().filter(|list| list.speaks("1.1.0")) {
            let call = self.call("STATUS", &[]);
            for plugin in &list.plugins {
                match call.execute(kind_of(plugin), &configuration(list, plugin, None)).await {
                    Err(Error::Plugin { code: UNKNOWN_COMMAND, .. }) => {}
                    other => drop(other?),
                }
            }
        }
        Ok(())
    }

    /// Detaches all pods of earlier daemons but the living, side by side, and tells plugins
    /// which attachments are valid.
    pub(super) async fn collect_garbage(&self, live: &HashSet<String>) -> Result<(), Error> {
        let dead = self.earlier.iter().filter(|sandbox| !live.contains(*sandbox));
        let detached = futures_util::future::join_all(dead.map(|s| self.detach(s, None))).await;
        let mut outcome = detached.into_iter().collect::<Result<(), _>>();
        let all: Vec<(String, Attachment)> =
            self.database.find_all(ATTACHMENTS).await.map_err(Error::store("CNI networks"))?;
        for list in self.networks().await.unwrap_or_default() {
            outcome = outcome.and(self.collect_list(&list, &all).await);
        }
        outcome
    }

    async fn collect_list(
        &self,
        list: &NetworkList,
        all: &[(String, Attachment)],
    ) -> Result<(), Error> {
        if list.disable_gc || !list.speaks("1.1.0") {
            return Ok(());
        }
        let valid: Vec<Value> = all
            .iter()
            .flat_map(|(sandbox, attachment)| {
                attachment.networks.iter().map(move |attached| (sandbox, attached))
            })
            .filter(|(_, attached)| attached.list.name == list.name)
            .map(
                |(sandbox, attached)| json!({"containerID": sandbox, "ifname": attached.interface}),
            )
            .collect();
        let call = self.call("GC", &[]);
        for plugin in &list.plugins {
            let mut configuration = configuration(list, plugin, None);
            if let Some(object) = configuration.as_object_mut() {
                object.insert("cni.dev/valid-attachments".to_owned(), json!(valid));
            }
            match call.execute(kind_of(plugin), &configuration).await {
                Err(Error::Plugin { code: UNKNOWN_COMMAND, .. }) => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    async fn record(&self, attachment: &Attachment) -> Result<(), Error> {
        let sandbox = &attachment.request.sandbox_id;
        let record = Batch::of(ATTACHMENTS, sandbox, attachment).map_err(Error::store(sandbox))?;
        self.database.submit(record).known().await.map_err(Error::store(sandbox))
    }

    fn call<'a>(
        &'a self,
        verb: &'static str,
        environment: &'a [(&'static str, String)],
    ) -> Call<'a> {
        let (directories, limit) = (&self.options.cni_bin_dirs, self.options.cni_timeout);
        Call { verb, environment, directories, limit }
    }
}

/// Does work with files on a thread that serves nobody.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::WorkerEnded))
}
