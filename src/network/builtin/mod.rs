//! The built-in network: a bridge of the host, a pair of devices for each pod, addresses
//! from a subnet, host ports. It talks to the kernel alone and starts no program.
//!
//! One thread owns all of it ([`worker`]), because working inside a pod's network
//! namespace is a property of a thread; so no lock is needed either. A lease is recorded
//! before its device is made, so that a restart finds whatever it may have to undo.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Error, Options,
    bandwidth::Bandwidth,
    namespace,
    netlink::{Messages, Socket},
    request::{Addresses, PodRequest},
    route,
};
use crate::{
    crash,
    store::{Batch, Database},
};

pub(super) use settings::check_subnets;

use self::{lease::Lease, pool::Pool, reaper::Reaper, settings::check_names};

mod bridge;
mod conflict;
mod connections;
mod guard;
mod join;
mod lease;
pub(super) mod listing;
mod nftables;
mod pool;
mod ports;
pub mod probe;
mod reaper;
mod ruleset;
mod settings;
mod shaper;
pub(super) mod strays;
pub(super) mod worker;

/// Leases by sandbox.
const LEASES: &str = "addresses";
/// What is true of the network as a whole.
const SETTINGS: &str = "network_settings";
const CURSORS: &str = "cursors";

/// The name of a pod's interface.
const INTERFACE: &str = "eth0";
const NETWORK_NAME: &str = "builtin";

/// The built-in network.
pub(super) struct Builtin {
    options: Arc<Options>,
    database: Arc<Database>,
    /// The host's network namespace.
    home: OwnedFd,
    route: Socket,
    netfilter: Option<Socket>,
    pools: Vec<Pool>,
    used: HashSet<IpAddr>,
    leases: HashMap<String, Lease>,
    /// Whose leases an earlier daemon left.
    earlier: HashSet<String>,
    bridge: Option<bridge::Bridge>,
    rules: ports::Rules,
    reaper: Reaper,
    /// The kernel cannot check the sources of packets, which has been said.
    unguarded: bool,
    /// The thread did not come back from a pod's namespace.
    stranded: bool,
}

impl Builtin {
    /// Opens the network of the calling thread's namespace with what was recorded.
    pub(super) fn open(options: Arc<Options>, database: Arc<Database>) -> Result<Self, Error> {
        check_names(&options)?;
        let records: Vec<(String, Lease)> =
            database.list(LEASES).map_err(Error::store("the built-in network"))?;
        let earlier = records.iter().map(|(sandbox, _)| sandbox.clone()).collect();
        let used = records.iter().flat_map(|(_, lease)| lease.ips()).collect();
        let home = namespace::current()
            .map_err(Error::kernel("open", "the network namespace of the host"))?;
        let socket = || Socket::route().map_err(Error::kernel("open", "a netlink socket"));
        let mut builtin = Self {
            pools: Vec::new(),
            route: socket()?,
            netfilter: None,
            used,
            leases: records.into_iter().collect(),
            earlier,
            bridge: None,
            rules: ports::Rules::default(),
            reaper: Reaper::start(socket()?, options.bridge.clone())?,
            unguarded: false,
            stranded: false,
            home,
            options,
            database,
        };
        builtin.pools = builtin.recorded_pools()?;
        Ok(builtin)
    }

    /// Joins a pod to the network, or undoes everything.
    pub(super) fn set_up(
        &mut self,
        request: &PodRequest,
        namespace: BorrowedFd<'_>,
    ) -> Result<Addresses, Error> {
        check_wishes(request)?;
        let bandwidth = Bandwidth::of(request)?;
        // A lease that is there already is that of an attempt whose end nobody saw.
        self.tear_down(&request.sandbox_id)?;
        let bridge = self.ensure_bridge()?;
        let lease = self.take_lease(request, bandwidth)?;
        crash::point("bridge: lease is recorded");
        let joined = self.join(namespace, &lease, bridge).and_then(|()| {
            crash::point("bridge: pod is joined");
            self.open_ports(&request.sandbox_id, &lease)
        });
        if let Err(error) = joined {
            if let Err(undo) = self.tear_down(&request.sandbox_id) {
                tracing::warn!(sandbox.id = request.sandbox_id, error = %undo,
                    "cannot undo the network of a sandbox; garbage collection will");
            }
            return Err(error);
        }
        Ok(Addresses {
            ips: lease.ips().collect(),
            interfaces: vec![INTERFACE.to_owned()],
            network: NETWORK_NAME.to_owned(),
        })
    }

    /// Takes a pod off the network. Whether there was anything to take off.
    pub(super) fn tear_down(&mut self, sandbox: &str) -> Result<bool, Error> {
        let Some(lease) = self.leases.get(sandbox).cloned() else { return Ok(false) };
        self.close_ports(sandbox, &lease)?;
        crash::point("bridge: host ports are closed");
        // It is so whether or not a full disk takes it.
        self.database.observe(Batch::without(LEASES, sandbox)).later();
        self.leases.remove(sandbox);
        self.reaper.bury(lease);
        Ok(true)
    }

    /// Takes off all pods of earlier daemons but the living, and removes devices that nobody
    /// knows.
    pub(super) fn collect_garbage(&mut self, live: &HashSet<String>) -> Result<(), Error> {
        let earlier = std::mem::take(&mut self.earlier);
        for sandbox in earlier.into_iter().filter(|id| !live.contains(id)) {
            self.tear_down(&sandbox)?;
        }
        let known: HashSet<&str> = self.leases.values().map(|lease| lease.link.as_str()).collect();
        for name in bridge::ports(&mut self.route, &self.options.bridge)? {
            if name.starts_with(lease::LINK_PREFIX) && !known.contains(name.as_str()) {
                self.reaper.bury(Lease { link: name, ..Lease::default() });
            }
        }
        let links = route::links(&mut self.route).map_err(Error::kernel("list", "devices"))?;
        let names: Vec<String> = links.into_iter().map(|link| link.name).collect();
        for link in shaper::orphans(&names) {
            self.reaper.bury(Lease { link, ..Lease::default() });
        }
        Ok(())
    }

    /// Removes the bridge and the rules, where no pod has them.
    pub(super) fn remove(&mut self) -> Result<(), Error> {
        match self.leases.keys().min() {
            Some(first) => Err(Error::InUse { count: self.leases.len(), first: first.clone() }),
            None => self.dismantle(),
        }
    }

    /// Removes the bridge and the rules.
    pub(super) fn dismantle(&mut self) -> Result<(), Error> {
        self.remove_rules()?;
        self.bridge = None;
        let name = self.options.bridge.clone();
        if !route::link(&mut self.route, &name).is_ok_and(|link| link.is_bridge) {
            return Ok(());
        }
        let mut messages = Messages::new();
        route::delete_link(&mut messages, &name);
        self.route.send_all(messages).map_err(Error::kernel("remove bridge", name))
    }

    /// Records the addresses that the pod gets before anything is made with them.
    fn take_lease(&mut self, request: &PodRequest, bandwidth: Bandwidth) -> Result<Lease, Error> {
        for address in self.reaper.buried() {
            self.used.remove(&address);
        }
        let mut addresses = Vec::with_capacity(self.pools.len());
        for pool in &mut self.pools {
            addresses.push(pool.next(&self.used)?);
        }
        let lease = Lease::new(request, addresses, bandwidth, self.options.name_prefix.as_str());
        lease.check_ports(&self.leases)?;
        let cursors: Vec<IpAddr> = self.pools.iter().map(Pool::cursor).collect();
        let failed = || Error::store(&request.sandbox_id);
        let mut batch = Batch::new();
        batch.put(LEASES, &request.sandbox_id, &lease).map_err(failed())?;
        batch.put(SETTINGS, CURSORS, &cursors).map_err(failed())?;
        self.database.commit(batch).map_err(failed())?;
        self.used.extend(lease.ips());
        self.leases.insert(request.sandbox_id.clone(), lease.clone());
        Ok(lease)
    }

    /// The subnets that pods have addresses of, or will have.
    fn subnets(&self) -> BTreeSet<IpNet> {
        let leased = self.leases.values().flat_map(|lease| &lease.addresses).map(IpNet::trunc);
        self.pools.iter().map(Pool::subnet).chain(leased).collect()
    }
}

/// What only plugins can give.
fn check_wishes(request: &PodRequest) -> Result<(), Error> {
    if request.ips.is_empty() && request.mac.is_empty() {
        return Ok(());
    }
    let reason = "io.criquet.ips and io.criquet.mac need a CNI network: the built-in network \
                  chooses addresses itself";
    Err(Error::Annotation { reason: reason.to_owned() })
}

/// Removes the table as somebody else would.
#[cfg(test)]
pub(super) fn destroy_table(table: &str) {
    Socket::netfilter().and_then(|mut socket| ruleset::destroy(&mut socket, table)).unwrap();
}

/// Whether the table is there.
#[cfg(test)]
pub(super) fn table_exists(table: &str) -> bool {
    Socket::netfilter().and_then(|mut socket| ruleset::exists(&mut socket, table)).unwrap()
}
