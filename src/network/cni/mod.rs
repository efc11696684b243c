//! Networks by CNI plugins, as nodes of Kubernetes have them.
//!
//! Entry point: [`Cni`]. It executes the chains of plugins and records what it does; the
//! files of configuration are read in `config`, one plugin is executed in `plugin`.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{sync::OnceCell, time::timeout};

use super::{
    Error, Options, PodListing,
    request::{Addresses, PodRequest},
};
use crate::{
    crash,
    kind::chain as chain_of,
    store::{Batch, Database},
};

use self::{
    attachment::{Attached, Attachment},
    cache::Cache,
    chain::{configuration, kind_of},
    config::Found,
    list::NetworkList,
    orphans::Mark,
    plugin::Call,
};

mod attachment;
mod cache;
mod capability;
mod chain;
mod config;
mod garbage;
mod list;
mod orphans;
mod plugin;
pub mod survey;
mod template;

/// Attachments by sandbox.
const ATTACHMENTS: &str = "networks";
/// What is true of the networks as a whole, and there the subnets that Kubernetes gave the node.
const SETTINGS: &str = "network_settings";
const POD_CIDRS: &str = "cni_pod_cidrs";

/// How long the look for plugins of an earlier daemon may take: a process can keep its memory
/// locked.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
const NOT_ENDED: &str = "CNI plugins that an earlier daemon called may still be there";

/// The CNI networks of a node.
pub(super) struct Cni {
    options: Arc<Options>,
    database: Arc<Database>,
    cache: Cache,
    /// Whose attachments an earlier daemon left.
    earlier: Vec<String>,
    /// The subnets that Kubernetes gave the node. Held for a copy.
    pod_cidrs: Mutex<Vec<IpNet>>,
    /// What was last told of files that are passed over. Held for a comparison.
    told: Mutex<String>,
    /// By which the next daemon finds plugins of this one; none where the root cannot be read.
    mark: Option<Mark>,
    /// Plugins of earlier daemons have ended.
    earlier_have_ended: OnceCell<()>,
}

impl Cni {
    pub(super) fn open(options: Arc<Options>, database: Arc<Database>) -> Result<Self, Error> {
        let cache = Cache::new(&options);
        let failed = || Error::store("CNI networks");
        let all: Vec<(String, Attachment)> = database.list(ATTACHMENTS).map_err(failed())?;
        let earlier = all.into_iter().map(|(sandbox, _)| sandbox).collect();
        let cidrs: Option<Vec<IpNet>> = database.get(SETTINGS, POD_CIDRS).map_err(failed())?;
        let pod_cidrs = Mutex::new(cidrs.unwrap_or_default());
        let mark = Mark::own(&options.root).inspect_err(|error| {
            let root = options.root.display();
            tracing::warn!(%root, %error, "CNI plugins that hang may outlive this daemon");
        });
        let cni = Self {
            options,
            database,
            cache,
            earlier,
            pod_cidrs,
            told: Mutex::default(),
            mark: mark.ok(),
            earlier_have_ended: OnceCell::new(),
        };
        // The template may be another one than that of the daemon before.
        if let Err(error) = cni.render() {
            tracing::warn!(error = %chain_of(&error), "the CNI configuration is not made anew");
        }
        Ok(cni)
    }

    /// The networks that are configured now; none if there is no file.
    pub(super) async fn networks(&self) -> Result<Vec<NetworkList>, Error> {
        let options = Arc::clone(&self.options);
        let read = move || config::read_directory(&options.cni_conf_dir, options.cni_max_conf);
        let Found { networks, passed_over } = aside(read).await?;
        self.tell(&passed_over);
        match &self.options.cni_conf_template {
            // The administrator wants a network that is still to come, and no other.
            Some(path) if networks.is_empty() => Err(Error::Configuration {
                path: path.clone(),
                reason: "this template is filled in as soon as Kubernetes tells the node its \
                         pod CIDR (--allocate-node-cidrs of the controller manager)"
                    .to_owned(),
            }),
            _ => Ok(networks),
        }
    }

    /// Says once what is wrong with files in whose place others are used.
    fn tell(&self, passed_over: &[Error]) {
        let text = passed_over.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != text {
            if !text.is_empty() {
                tracing::warn!("passed over: {text}");
            }
            *told = text;
        }
    }

    /// Keeps the subnets of the node for plugins that ask for them, and fills in the template.
    /// Waits for the disk.
    pub(super) fn set_pod_cidrs(&self, cidrs: &[IpNet]) -> Result<(), Error> {
        *self.pod_cidrs.lock().unwrap_or_else(PoisonError::into_inner) = cidrs.to_vec();
        let stored = self.database.put(SETTINGS, POD_CIDRS, &cidrs.to_vec());
        stored.map_err(Error::store("CNI networks"))?;
        self.render()
    }

    fn render(&self) -> Result<(), Error> {
        let cidrs = self.ranges();
        match &self.options.cni_conf_template {
            Some(template) if !cidrs.is_empty() => {
                template::render_to(template, &self.options.cni_conf_dir, &cidrs)
            }
            _ => Ok(()),
        }
    }

    fn ranges(&self) -> Vec<IpNet> {
        self.pod_cidrs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Attaches a pod to the networks, or undoes everything.
    pub(super) async fn attach(
        &self,
        networks: Vec<NetworkList>,
        pod: &PodRequest,
        netns: &Path,
    ) -> Result<Addresses, Error> {
        let ranges = self.ranges();
        // Before anything is recorded that would have to be undone.
        capability::values(pod, &ranges)?;
        // What an earlier attempt left must not be forgotten.
        self.detach(&pod.sandbox_id, Some(netns)).await?;
        let attached =
            |(index, list)| Attached { list, interface: format!("eth{index}"), result: None };
        let mut attachment = Attachment {
            request: pod.clone(),
            netns: netns.to_string_lossy().into_owned(),
            networks: networks.into_iter().enumerate().map(attached).collect(),
            ranges,
        };
        self.record(&attachment).await?;
        crash::point("CNI: recorded");
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
        let Some(attachment) = self.attachment(sandbox).await? else { return Ok(()) };
        // The recorded path is not used: it may lead through a process that is gone, and by
        // now to somebody else's namespace. Plugins that are given none remove what is
        // left outside of it.
        let netns = netns.filter(|netns| netns.exists());
        let netns = netns.map(|netns| netns.to_string_lossy()).unwrap_or_default();
        self.remove_all(&attachment, &netns).await
    }

    /// Whether a pod still has what the plugins gave it, as far as they tell. True of a pod
    /// that has no CNI network.
    pub(super) async fn check(&self, sandbox: &str) -> Result<(), Error> {
        match self.attachment(sandbox).await? {
            Some(attachment) => self.check_all(&attachment).await,
            None => Ok(()),
        }
    }

    async fn attachment(&self, sandbox: &str) -> Result<Option<Attachment>, Error> {
        self.database.find(ATTACHMENTS, sandbox).await.map_err(Error::store(sandbox))
    }

    /// What pods have of CNI networks.
    pub(super) async fn list(&self) -> Result<Vec<PodListing>, Error> {
        let listing = |(sandbox, attachment): (String, Attachment)| PodListing {
            sandbox,
            network: attachment
                .networks
                .iter()
                .map(|attached| attached.list.name.clone())
                .collect::<Vec<_>>()
                .join(","),
            addresses: attachment
                .networks
                .iter()
                .filter_map(|attached| attached.result.as_ref())
                .flat_map(|result| attachment::addresses(result).unwrap_or_default())
                .collect(),
            host_ports: attachment.request.port_mappings,
            ..PodListing::default()
        };
        Ok(self.attachments().await?.into_iter().map(listing).collect())
    }

    /// All pods with CNI networks.
    async fn attachments(&self) -> Result<Vec<(String, Attachment)>, Error> {
        self.database.find_all(ATTACHMENTS).await.map_err(Error::store("CNI networks"))
    }

    /// Whether the networks can take pods, as far as their plugins tell.
    pub(super) async fn status(&self, networks: &[NetworkList]) -> Result<(), Error> {
        for list in networks.iter().filter(|list| list.speaks("1.1.0")) {
            let call = self.call("STATUS", &[]).await;
            for plugin in &list.plugins {
                let configuration = configuration(list, plugin, None);
                call.execute_if_known(kind_of(plugin), &configuration).await?;
            }
        }
        Ok(())
    }

    async fn record(&self, attachment: &Attachment) -> Result<(), Error> {
        let sandbox = &attachment.request.sandbox_id;
        let record = Batch::of(ATTACHMENTS, sandbox, attachment).map_err(Error::store(sandbox))?;
        self.database.submit(record).known().await.map_err(Error::store(sandbox))
    }

    /// A call of plugins, once those of earlier daemons are out of its way.
    async fn call<'a>(
        &'a self,
        verb: &'static str,
        environment: &'a [(&'static str, String)],
    ) -> Call<'a> {
        self.earlier_plugins_have_ended().await;
        let (directories, limit) = (&self.options.cni_bin_dirs, self.options.cni_timeout);
        Call { verb, environment, directories, limit, mark: self.mark.as_ref() }
    }

    /// Once, before a plugin is called.
    async fn earlier_plugins_have_ended(&self) {
        self.earlier_have_ended.get_or_init(|| self.end_earlier()).await;
    }

    async fn end_earlier(&self) {
        let Some(own) = self.mark.clone() else { return };
        let end = move || orphans::end(&own).map_err(Error::kernel("look at", "processes"));
        match timeout(LOOK_LIMIT, aside(end)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %chain_of(&error), "{NOT_ENDED}"),
            Err(_) => tracing::warn!(seconds = LOOK_LIMIT.as_secs(), "{NOT_ENDED}"),
        }
    }
}

/// Does work with files on a thread that serves nobody.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::WorkerEnded))
}
