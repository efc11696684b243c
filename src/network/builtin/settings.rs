//! The subnets and names of the built-in network: from the configuration, or pushed by
//! Kubernetes.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    super::{Error, Options},
    Builtin, CURSORS, SETTINGS,
    pool::Pool,
};

const POD_CIDRS: &str = "pod_cidrs";

impl Builtin {
    pub(super) fn recorded_pools(&self) -> Result<Vec<Pool>, Error> {
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
        self.options.subnets()
    }

    /// Uses other subnets for the pods to come.
    pub(in super::super) fn set_pod_cidrs(&mut self, cidrs: &[IpNet]) -> Result<(), Error> {
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
pub(in super::super) fn check_subnets(subnets: &[IpNet]) -> Result<(), Error> {
    make_pools(subnets).map(|_| ())
}

/// Names that the kernel would refuse only when the first pod comes.
pub(super) fn check_names(options: &Options) -> Result<(), Error> {
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
