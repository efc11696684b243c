//! The networks of pods: CNI, or the built-in bridge network where no CNI network is
//! configured.
//!
//! Entry point: `Network`. It sets up a network namespace that the caller made, and
//! takes it down from what it recorded, whatever is configured by then. It knows neither
//! images nor the runtime nor the protocol of the CRI.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::store::Database;

pub use builtin::{
    listing::{BridgeListing, PodListing, SubnetListing},
    probe,
    strays::{Stray, StrayKind},
};
pub use cni::survey::{CniList, CniNetwork, survey as cni_networks};
pub use error::Error;
pub use request::{Addresses, Dns, Family, PodRequest, PortMapping, Protocol};

use builtin::{Builtin, check_subnets, worker::Worker};
use cni::{Cni, aside};

mod bandwidth;
mod builtin;
mod cni;
pub mod dial;
mod error;
mod namespace;
mod netlink;
mod request;
mod route;
mod tc;
#[cfg(test)]
mod tests;

/// What an administrator decides about the networks of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The root of the daemon, by which its plugins and their results are told from those of others.
    pub root: PathBuf,
    /// Whether pods get the built-in network where there is no CNI configuration.
    pub builtin: bool,
    /// The bridge of the built-in network.
    pub bridge: String,
    /// The subnet of its IPv4 addresses; none for a network without.
    pub subnet_v4: Option<IpNet>,
    /// The subnet of its IPv6 addresses; none for a network without.
    pub subnet_v6: Option<IpNet>,
    /// Whether pods appear to other machines with the address of the host.
    pub masquerade: bool,
    /// The largest packet; none for that of the host's default route.
    pub mtu: Option<u32>,
    /// The name of the nftables table, for each daemon of a machine another one.
    pub name_prefix: String,
    /// Whether pods of the built-in network can only send what has their own addresses as its
    /// source.
    pub source_check: bool,
    /// The family of a pod's first address, whoever gives it; none for the order in which the
    /// network names them.
    pub prefer: Option<Family>,
    /// Where CNI configurations are.
    pub cni_conf_dir: PathBuf,
    /// Where CNI plugins are.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// What a CNI configuration is made of when Kubernetes tells the node its subnets; none
    /// where configurations come from elsewhere.
    pub cni_conf_template: Option<PathBuf>,
    /// How many CNI networks a pod gets at most, in the order of their files; 0 for all.
    pub cni_max_conf: usize,
    /// Where the results of CNI plugins are kept.
    pub cache_dir: PathBuf,
    /// How long one CNI plugin may take.
    pub cni_timeout: Duration,
}

const DEFAULT_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 88, 0, 0), 16);
const DEFAULT_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd4a, 0x6b1d, 0x88, 0, 0, 0, 0, 0), 64);

impl Options {
    /// The subnets of the built-in network as they are configured.
    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        self.subnet_v4.into_iter().chain(self.subnet_v6).collect()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: "/var/lib/criquet".into(),
            builtin: true,
            bridge: "criquet0".to_owned(),
            subnet_v4: Some(DEFAULT_V4.into()),
            subnet_v6: Some(DEFAULT_V6.into()),
            masquerade: true,
            mtu: None,
            name_prefix: "criquet".to_owned(),
            source_check: true,
            prefer: Some(Family::Ipv4),
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_bin_dirs: ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]
                .map(PathBuf::from)
                .into(),
            cni_conf_template: None,
            cni_max_conf: 1,
            cache_dir: "/var/lib/cni".into(),
            cni_timeout: Duration::from_secs(120),
        }
    }
}

/// The networks of the pods of one daemon; clones share them.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    options: Arc<Options>,
    worker: Worker,
    cni: Arc<Cni>,
}

impl Network {
    /// Opens the networks with what was recorded in the database. The network namespace of
    /// the calling thread is the host's. Nothing of the host is changed before the first pod.
    pub fn open(options: Options, database: Arc<Database>) -> Result<Self, Error> {
        let options = Arc::new(options);
        let builtin = Builtin::open(options.clone(), database.clone())?;
        let worker = Worker::start(builtin)?;
        let cni = Arc::new(Cni::open(options.clone(), database)?);
        Ok(Self { shared: Arc::new(Shared { options, worker, cni }) })
    }

    /// Sets up the network of a pod's namespace.
    ///
    /// A failure is undone. If the future is dropped before its end, or the daemon dies
    /// meanwhile, [`Network::teardown`] undoes what was done. A second call for the same
    /// sandbox replaces what the first one made.
    pub async fn setup(
        &self,
        pod: &PodRequest,
        netns: BorrowedFd<'_>,
        netns_path: &Path,
    ) -> Result<Addresses, Error> {
        let namespace =
            netns.try_clone_to_owned().map_err(Error::kernel("keep", "the network namespace"))?;
        let worker = &self.shared.worker;
        let networks = self.shared.cni.networks().await?;
        if !networks.is_empty() {
            worker.run(move |builtin| builtin.bring_up_loopback(namespace.as_fd())).await?;
            let mut addresses = self.shared.cni.attach(networks, pod, netns_path).await?;
            addresses.prefer(self.shared.options.prefer);
            return Ok(addresses);
        }
        if !self.shared.options.builtin {
            let directory = self.shared.options.cni_conf_dir.clone();
            return Err(Error::NoNetwork { directory });
        }
        let pod = pod.clone();
        let set_up = worker.run(move |builtin| builtin.set_up(&pod, namespace.as_fd()));
        let mut addresses = set_up.await?;
        addresses.prefer(self.shared.options.prefer);
        Ok(addresses)
    }

    /// Takes down the network of a pod, from what was recorded. Without a record there is
    /// nothing to do. Without a path, or with one that leads nowhere, the namespace is gone.
    ///
    /// A device of the built-in network is removed by the end of the namespace, or shortly
    /// after this returns; its addresses are not given to another pod before.
    pub async fn teardown(&self, pod: &PodRequest, netns_path: Option<&Path>) -> Result<(), Error> {
        let sandbox = pod.sandbox_id.clone();
        let found = self.shared.worker.run(move |builtin| builtin.tear_down(&sandbox)).await?;
        if !found {
            self.shared.cni.detach(&pod.sandbox_id, netns_path).await?;
        }
        Ok(())
    }

    /// What an administrator decided.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The configurations of CNI that pods would get now; none where there is no file.
    ///
    /// # Errors
    /// When there are some and they cannot be read.
    pub async fn cni_lists(&self) -> Result<Vec<CniList>, Error> {
        Ok(self.shared.cni.networks().await?.into_iter().map(CniList::from).collect())
    }

    /// Whether pods can be given a network now, and why not. What somebody removed of the
    /// built-in network while it has pods is made again.
    pub async fn status(&self) -> Result<(), Error> {
        let networks = self.shared.cni.networks().await?;
        if !networks.is_empty() {
            return self.shared.cni.status(&networks).await;
        }
        if !self.shared.options.builtin {
            let directory = self.shared.options.cni_conf_dir.clone();
            return Err(Error::NoNetwork { directory });
        }
        self.shared.worker.run(Builtin::mend).await
    }

    /// Takes down what earlier daemons set up for sandboxes other than the living ones:
    /// recorded networks, devices on the bridge, what CNI plugins remember. Sandboxes that
    /// were set up since the networks were opened are left alone.
    pub async fn collect_garbage(&self, live: &[String]) -> Result<(), Error> {
        let live: HashSet<String> = live.iter().cloned().collect();
        let kept = live.clone();
        let builtin = self.shared.worker.run(move |builtin| builtin.collect_garbage(&kept)).await;
        self.shared.cni.collect_garbage(&live).await.and(builtin)
    }

    /// Gives pods to come addresses of these subnets, from now on and after a restart: those
    /// of the built-in network, and those of CNI plugins that ask for the node's subnets or
    /// whose configuration is made of a template. Pods that run keep theirs. An empty list
    /// changes nothing.
    pub async fn set_pod_cidrs(&self, cidrs: &[IpNet]) -> Result<(), Error> {
        if cidrs.is_empty() {
            return Ok(());
        }
        check_subnets(cidrs)?;
        let (cni, cidrs) = (Arc::clone(&self.shared.cni), cidrs.to_vec());
        let of_builtin = cidrs.clone();
        self.shared.worker.run(move |builtin| builtin.set_pod_cidrs(&of_builtin)).await?;
        aside(move || cni.set_pod_cidrs(&cidrs)).await
    }

    /// Whether a running pod still has what CNI plugins gave it, as far as they tell.
    ///
    /// # Errors
    /// What a plugin finds missing.
    pub async fn check(&self, sandbox: &str) -> Result<(), Error> {
        self.shared.cni.check(sandbox).await
    }

    /// What there is of networks: the built-in one, and the pods of CNI networks.
    ///
    /// # Errors
    /// When what is recorded cannot be read.
    pub async fn list(&self) -> Result<(BridgeListing, Vec<PodListing>), Error> {
        let bridge = self.shared.worker.run(|builtin| Ok(builtin.list())).await?;
        Ok((bridge, self.shared.cni.list().await?))
    }

    /// What there is of the built-in network and belongs to none of these sandboxes. What is
    /// about to be removed is among it for a moment.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn strays(&self, sandboxes: HashSet<String>) -> Result<Vec<Stray>, Error> {
        self.shared.worker.run(move |builtin| builtin.strays(&sandboxes)).await
    }

    /// Removes one of those, if it still is one.
    ///
    /// # Errors
    /// When the kernel refuses, or the record cannot be removed.
    pub async fn remove_stray(
        &self,
        sandboxes: HashSet<String>,
        kind: StrayKind,
        name: String,
    ) -> Result<(), Error> {
        let remove = move |builtin: &mut Builtin| builtin.remove_stray(&sandboxes, kind, &name);
        self.shared.worker.run(remove).await
    }

    /// The same as [`Network::strays`] where no daemon runs; changes nothing. Blocks.
    ///
    /// # Errors
    /// When the records cannot be read, or the kernel does not tell.
    pub fn strays_alone(
        options: Options,
        database: Arc<Database>,
        sandboxes: &HashSet<String>,
    ) -> Result<Vec<Stray>, Error> {
        Builtin::open(Arc::new(options), database)?.strays(sandboxes)
    }

    /// Removes the bridge and the rules of the built-in network from the host; the next pod
    /// makes them again.
    ///
    /// # Errors
    /// When pods have it.
    pub async fn remove_builtin(&self) -> Result<(), Error> {
        self.shared.worker.run(Builtin::remove).await
    }
}
