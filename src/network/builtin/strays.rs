//! What is on the host of the built-in network and belongs to no pod that is known.

use std::collections::HashSet;

use super::{
    Builtin, bridge,
    lease::{LINK_PREFIX, Lease},
    ruleset::{self, Element},
    shaper,
};
use crate::network::{Error, route};

/// What kind of thing a stray is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrayKind {
    /// A device of a pod.
    Device,
    /// An element of a map of the nftables table.
    HostPort,
    /// The record of what a pod has of the network.
    Lease,
}

/// Something that belongs to no pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// What it is.
    pub kind: StrayKind,
    /// Its name, by which it can be removed.
    pub name: String,
    /// Why it is one.
    pub reason: String,
}

impl Builtin {
    /// What belongs to no pod, if these are the sandboxes that there are. Devices that wait for
    /// their removal are among it for a moment.
    pub(in super::super) fn strays(
        &mut self,
        sandboxes: &HashSet<String>,
    ) -> Result<Vec<Stray>, Error> {
        let mut strays: Vec<Stray> = Vec::new();
        for sandbox in self.leases.keys().filter(|sandbox| !sandboxes.contains(*sandbox)) {
            let reason = "it has addresses for a pod that has no record".to_owned();
            strays.push(Stray { kind: StrayKind::Lease, name: sandbox.clone(), reason });
        }
        let known: HashSet<String> = self.leases.values().flat_map(Lease::devices).collect();
        for name in self.devices()? {
            if !known.contains(&name) {
                let reason = "no pod has it".to_owned();
                strays.push(Stray { kind: StrayKind::Device, name, reason });
            }
        }
        for element in self.stray_elements()? {
            let reason = "no pod has this host port".to_owned();
            let name = element.name(&self.options.name_prefix);
            strays.push(Stray { kind: StrayKind::HostPort, name, reason });
        }
        Ok(strays)
    }

    /// Removes one of those that [`Builtin::strays`] names; one that is none any more stays.
    pub(in super::super) fn remove_stray(
        &mut self,
        sandboxes: &HashSet<String>,
        kind: StrayKind,
        name: &str,
    ) -> Result<(), Error> {
        let is_stray = |stray: &Stray| stray.kind == kind && stray.name == name;
        if !self.strays(sandboxes)?.iter().any(is_stray) {
            return Ok(());
        }
        match kind {
            StrayKind::Device => {
                self.reaper.bury(Lease { link: name.to_owned(), ..Lease::default() });
                Ok(())
            }
            StrayKind::Lease => self.tear_down(name).map(drop),
            StrayKind::HostPort => {
                let table = self.options.name_prefix.clone();
                let strays = self.stray_elements()?;
                let element = strays.into_iter().find(|element| element.name(&table) == name);
                let Some(element) = element else { return Ok(()) };
                let removed = self
                    .netfilter()
                    .and_then(|socket| ruleset::remove_element(socket, &table, &element));
                removed.map_err(|source| Error::Nftables { source })
            }
        }
    }

    /// Devices that have the name of one of ours: ports of the bridge, and what packets wait in
    /// whose own device is gone.
    fn devices(&mut self) -> Result<Vec<String>, Error> {
        let mut devices = bridge::ports(&mut self.route, &self.options.bridge)?;
        devices.retain(|name| name.starts_with(LINK_PREFIX));
        let links = route::links(&mut self.route).map_err(Error::kernel("list", "devices"))?;
        let names: Vec<String> = links.into_iter().map(|link| link.name).collect();
        devices.extend(shaper::orphans(&names));
        Ok(devices)
    }

    /// Elements of our table whose key is no pod's. Where the table is absent, or the kernel has
    /// none, there are none.
    fn stray_elements(&mut self) -> Result<Vec<Element>, Error> {
        let table = self.options.name_prefix.clone();
        let Ok(socket) = self.netfilter() else { return Ok(Vec::new()) };
        if !ruleset::exists(socket, &table).unwrap_or(false) {
            return Ok(Vec::new());
        }
        let mut elements =
            ruleset::elements(socket, &table).map_err(|source| Error::Nftables { source })?;
        let known: HashSet<Element> = self
            .leases
            .values()
            .flat_map(Lease::host_ports)
            .map(|port| Element::of(&port))
            .collect();
        elements.retain(|element| !known.contains(element));
        Ok(elements)
    }
}
