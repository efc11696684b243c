//! The built-in network: a bridge of the host, a pair of devices for each pod, addresses
//! from a subnet, host ports. It talks to the kernel alone and starts no program.
//!
//! One thread owns all of it ([`worker`]), because working inside a pod's network
//! namespace is a property of a thread; so no lock is needed either. A lease is recorded
//! before its device is made, so that a restart finds whatever it may have to undo.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Error, Options,
    namespace::{self, within},
    netlink::{Messages, Socket},
    request::{Addresses, PodRequest},
    route::{self, Veth},
};
use crate::store::{Batch, Database};

use self::{lease::Lease, pool::Pool, reaper::Reaper};

mod bridge;
mod connections;
mod lease;
mod nftables;
mod pool;
mod ports;
mod reaper;
mod ruleset;
pub(super) mod worker;

/// Leases by sandbox.
const LEASES: &str = "addresses";
/// What is true of the network as a whole.
const SETTINGS: &str = "network_settings";
const CURSORS: &str = "cursors";
const POD_CIDRS: &str = "pod_cidrs";

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
    bridge: Option<bridge::Bridge>,
    rules: ports::Rules,
    reaper: Reaper,
    /// The thread did not come back from a pod's namespace.
    stranded: bool,
}

impl Builtin {
    /// Opens the network of the calling thread's namespace with what was recorded.
    pub(super) fn open(options: Arc<Options>, database: Arc<Database>) -> Result<Self, Error> {
        check_names(&options)?;
        let records: Vec<(String, Lease)> =
            database.list(LEASES).map_err(Error::store("the built-in network"))?;
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
            bridge: None,
            rules: ports::Rules::default(),
            reaper: Reaper::start(socket()?)?,
            stranded: false,
            home,
            options,
            database,
        };
        builtin.pools = builtin.recorded_pools()?;
        Ok(builtin)
    }

    fn recorded_pools(&self) -> Result<Vec<Pool>, Error> {
        let failed = || Error::store("the built-in network");
        let pushed: Option<PodCidrs> = self.database.get(SETTINGS, POD_CIDRS).map_err(failed())?;
        let cursors: Option<Vec<IpAddr>> = self.database.get(SETTINGS, CURSORS).map_err(failed())?;
        let configured = self.configured_subnets();
        // An administrator who has changed the configuration since then means it.
        let pushed = pushed.filter(|pushed| pushed.instead_of == configured);
        let mut pools = make_pools(&pushed.map_or(configured, |pushed| pushed.cidrs))?;
        for cursor in cursors.unwrap_or_default() {
            pools.iter_mut().for_each(|pool| pool.go_on_at(cursor));
        }
        Ok(pools)
    }

    fn configured_subnets(&self) -> Vec<IpNet> {
        std::iter::once(self.options.subnet_v4).chain(self.options.subnet_v6).collect()
    }

    /// Uses other subnets for the pods to come.
    pub(super) fn set_pod_cidrs(&mut self, cidrs: &[IpNet]) -> Result<(), Error> {
        let pools = make_pools(cidrs)?;
        if self.pools.iter().map(Pool::subnet).eq(pools.iter().map(Pool::subnet)) {
            return Ok(());
        }
        self.pools = pools;
        // The next pod finds no bridge that has the new gateways, and mends that.
        self.bridge = None;
        let pushed = PodCidrs { cidrs: cidrs.to_vec(), instead_of: self.configured_subnets() };
        self.database
            .put(SETTINGS, POD_CIDRS, &pushed)
            .map_err(Error::store("the built-in network"))
    }

    /// Joins a pod to the network, or undoes everything.
    pub(super) fn set_up(
        &mut self,
        request: &PodRequest,
        namespace: BorrowedFd<'_>,
    ) -> Result<Addresses, Error> {
        // A lease that is there already is that of an attempt whose end nobody saw.
        self.tear_down(&request.sandbox_id)?;
        let bridge = self.ensure_bridge()?;
        let lease = self.take_lease(request)?;
        let joined = self
            .join(namespace, &lease, bridge)
            .and_then(|()| self.open_ports(&request.sandbox_id, &lease));
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
        self.close_ports(&lease)?;
        self.database.delete(LEASES, sandbox).map_err(Error::store(sandbox))?;
        self.leases.remove(sandbox);
        self.reaper.bury(lease);
        Ok(true)
    }

    /// Takes off all pods but the living, and removes devices that nobody knows.
    pub(super) fn collect_garbage(&mut self, live: &HashSet<String>) -> Result<(), Error> {
        let dead: Vec<String> =
            self.leases.keys().filter(|id| !live.contains(*id)).cloned().collect();
        for sandbox in dead {
            self.tear_down(&sandbox)?;
        }
        let known: HashSet<&str> = self.leases.values().map(|lease| lease.link.as_str()).collect();
        for name in bridge::ports(&mut self.route, &self.options.bridge)? {
            if name.starts_with(lease::LINK_PREFIX) && !known.contains(name.as_str()) {
                self.reaper.bury(Lease { link: name, ..Lease::default() });
            }
        }
        Ok(())
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

    /// Brings up the loopback device of a namespace that another network serves.
    pub(super) fn bring_up_loopback(&mut self, namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let work = || -> io::Result<()> {
            let mut messages = Messages::new();
            route::set_up(&mut messages, LOOPBACK_INDEX);
            Socket::route()?.send_all(messages)
        };
        let outcome = within(self.home.as_fd(), namespace, work);
        self.came_home(outcome)?.map_err(Error::kernel("bring up", "the loopback device"))
    }

    /// Records the addresses that the pod gets before anything is made with them.
    fn take_lease(&mut self, request: &PodRequest) -> Result<Lease, Error> {
        for address in self.reaper.buried() {
            self.used.remove(&address);
        }
        let mut addresses = Vec::with_capacity(self.pools.len());
        for pool in &mut self.pools {
            addresses.push(pool.next(&self.used)?);
        }
        let lease = Lease::new(request, addresses, self.options.name_prefix.as_str());
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

    /// Makes the pod's devices and configures them, with one visit to its namespace.
    fn join(
        &mut self,
        namespace: BorrowedFd<'_>,
        lease: &Lease,
        bridge: bridge::Bridge,
    ) -> Result<(), Error> {
        let veth = Veth {
            host: &lease.link,
            bridge: bridge.index,
            namespace,
            peer: INTERFACE,
            mac: lease.mac(),
            mtu: bridge.mtu,
        };
        let host = &mut self.route;
        let outcome = within(self.home.as_fd(), namespace, || configure(host, &veth, lease));
        self.came_home(outcome)?
    }

    fn came_home<T>(&mut self, outcome: io::Result<io::Result<T>>) -> Result<T, Error> {
        let object = "the network namespace";
        match outcome {
            Ok(inner) => inner.map_err(Error::kernel("enter", object)),
            Err(error) => {
                self.stranded = true;
                Err(Error::kernel("leave", object)(error))
            }
        }
    }

    /// The subnets that pods have addresses of, or will have.
    fn subnets(&self) -> BTreeSet<IpNet> {
        let leased = self.leases.values().flat_map(|lease| &lease.addresses).map(IpNet::trunc);
        self.pools.iter().map(Pool::subnet).chain(leased).collect()
    }
}

const LOOPBACK_INDEX: u32 = 1;

/// Runs inside the pod's namespace; `host` is a socket of the host's.
fn configure(host: &mut Socket, veth: &Veth<'_>, lease: &Lease) -> Result<(), Error> {
    // Before the device is there, which inherits them: no router of the bridge may tell
    // the pod its routes, and an address that we assign needs no search for others.
    for sysctl in ["ipv6/conf/default/accept_ra", "ipv6/conf/default/accept_dad"] {
        match namespace::write_sysctl(sysctl, "0") {
            // Without IPv6 in the kernel there is nothing to turn off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(Error::kernel("set", format!("sysctl net/{sysctl}")))?,
        }
    }
    let mut messages = Messages::new();
    route::add_veth(&mut messages, veth);
    host.send_all(messages).map_err(Error::kernel("make", format!("device {}", veth.host)))?;

    let object = || format!("interface {} of the pod", veth.peer);
    let mut inside = Socket::route().map_err(Error::kernel("open", "a netlink socket"))?;
    let index = route::index_of(&inside, veth.peer).map_err(Error::kernel("find", object()))?;
    let mut messages = Messages::new();
    route::set_up(&mut messages, LOOPBACK_INDEX);
    route::set_up(&mut messages, index);
    for address in &lease.addresses {
        route::add_address(&mut messages, index, *address);
        route::add_default_route(&mut messages, index, bridge::gateway_of(address));
    }
    inside.send_all(messages).map_err(Error::kernel("configure", object()))
}

/// Names that the kernel would refuse only when the first pod comes.
fn check_names(options: &Options) -> Result<(), Error> {
    let refuse = |what, name: &str, reason| Err(Error::Name { what, name: name.into(), reason });
    let bridge = options.bridge.as_str();
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    if bridge.is_empty() || bridge.len() > 15 || bridge.starts_with('.') {
        return refuse("bridge", bridge, "a device's name has 1 to 15 characters and no dot first");
    }
    if !bridge.chars().all(allowed) {
        return refuse("bridge", bridge, "a device's name has no spaces and no '/', ':' and '%'");
    }
    let table = options.name_prefix.as_str();
    if table.is_empty() || table.len() > 200 || !table.chars().all(|c| c.is_ascii_graphic()) {
        return refuse("table", table, "a table's name has 1 to 200 letters, digits and signs");
    }
    Ok(())
}

/// Subnets that Kubernetes gave to the node.
#[derive(Serialize, Deserialize)]
struct PodCidrs {
    cidrs: Vec<IpNet>,
    /// What was configured then.
    instead_of: Vec<IpNet>,
}

/// A pool of the first subnet of each family: a pod has one address of a family.
fn make_pools(subnets: &[IpNet]) -> Result<Vec<Pool>, Error> {
    let mut pools: Vec<Pool> = Vec::new();
    for subnet in subnets {
        if !pools.iter().any(|pool| pool.subnet().addr().is_ipv4() == subnet.addr().is_ipv4()) {
            pools.push(Pool::new(*subnet)?);
        }
    }
    Ok(pools)
}

/// Whether these subnets can be used.
pub(super) fn check_subnets(subnets: &[IpNet]) -> Result<(), Error> {
    make_pools(subnets).map(|_| ())
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
