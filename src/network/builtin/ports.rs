//! Host ports and masquerade: when the rules are made, and what is done without them.

use std::{
    collections::HashSet,
    io::{self, ErrorKind},
};

use super::{
    super::{
        Error,
        namespace::write_sysctl,
        netlink::Socket,
        request::{PortMapping, Protocol},
    },
    Builtin,
    connections::Forgetter,
    lease::Lease,
    ruleset::{self, HostPort},
};

/// How far the rules are.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The table is made and fits the bridge.
    made: bool,
    /// The bridge routes connections from the host's loopback to pods.
    loopback: bool,
    /// That nftables is missing has been said.
    warned: bool,
    /// Forgets connections; not before there are rules.
    forgetter: Option<Forgetter>,
}

impl Builtin {
    /// The rules follow a bridge that was made or got other subnets.
    pub(super) fn bridge_changed(&mut self) {
        self.rules.made = false;
        self.rules.loopback = false;
        let wanted = self.options.masquerade || self.leases.values().any(has_ports);
        if !wanted || self.rules.warned {
            return;
        }
        if let Err(error) = self.make_rules() {
            self.rules.warned = true;
            tracing::warn!(%error,
                "no nftables: pods reach other machines only if those have a route back");
            return;
        }
        // A daemon that was killed may have been about to.
        let mappings: Vec<PortMapping> =
            self.leases.values().flat_map(|lease| lease.port_mappings.clone()).collect();
        self.forget_connections(&mappings);
        // A new device has the settings of any, not those of the one that was removed.
        if self.leases.values().any(has_ports)
            && let Err(error) = self.route_loopback()
        {
            tracing::warn!(%error, "host ports do not lead to pods from the host's loopback");
        }
    }

    /// Lets the pod's host ports lead to it.
    pub(super) fn open_ports(&mut self, sandbox: &str, lease: &Lease) -> Result<(), Error> {
        if !has_ports(lease) {
            return Ok(());
        }
        let failed = |source| Error::Nftables { source };
        if !self.rules.made {
            // The pod's own ports are among those of all leases.
            self.make_rules().map_err(failed)?;
        } else {
            match self.add_ports(&lease.host_ports()) {
                // The table is gone (someone flushed the rules), or it has a remainder of
                // a daemon that was killed: what is recorded is what holds.
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) =>
                {
                    tracing::info!(sandbox.id = sandbox, "the table of host ports is made anew");
                    self.make_rules()
                }
                other => other,
            }
            .map_err(failed)?;
        }
        self.forget_connections(&lease.port_mappings);
        self.route_loopback()
    }

    /// The pod's host ports lead nowhere any more.
    pub(super) fn close_ports(&mut self, sandbox: &str, lease: &Lease) -> Result<(), Error> {
        if !has_ports(lease) {
            return Ok(());
        }
        self.unroute_loopback(sandbox);
        let table = self.options.name_prefix.clone();
        let result = self
            .netfilter()
            .and_then(|socket| ruleset::remove(socket, &table, &lease.host_ports()));
        match result {
            // Without nftables there is no rule to remove.
            Err(error) if no_nftables(&error) => return Ok(()),
            other => other.map_err(|source| Error::Nftables { source })?,
        }
        self.forget_connections(&lease.port_mappings);
        Ok(())
    }

    /// Clients that go on sending to a UDP port are led by the rules of now.
    fn forget_connections(&mut self, mappings: &[PortMapping]) {
        let udp = mappings.iter().filter(|port| port.protocol == Protocol::Udp);
        let ports: HashSet<u16> = udp.map(|port| port.host_port).collect();
        if !ports.is_empty() {
            self.with_forgetter(|forgetter| forgetter.forget(ports));
        }
    }

    fn with_forgetter(&mut self, work: impl FnOnce(&Forgetter)) {
        let forgetter = &mut self.rules.forgetter;
        let started = match forgetter.take() {
            Some(forgetter) => Ok(forgetter),
            None => Forgetter::start(self.options.name_prefix.clone()),
        };
        match started {
            Ok(started) => work(forgetter.insert(started)),
            Err(error) => {
                tracing::warn!(%error, "UDP clients may reach an earlier pod for a while")
            }
        }
    }

    /// Makes what pods have of the host anew if someone removed it.
    pub(in super::super) fn mend(&mut self) -> Result<(), Error> {
        if !self.leases.is_empty() {
            self.ensure_bridge()?;
        }
        if !self.rules.made {
            return Ok(());
        }
        let table = self.options.name_prefix.clone();
        let failed = |source| Error::Nftables { source };
        if self.netfilter().and_then(|socket| ruleset::exists(socket, &table)).map_err(failed)? {
            return Ok(());
        }
        tracing::info!(table, "the nftables table was removed; it is made anew");
        self.make_rules().map_err(failed)
    }

    /// Removes the rules.
    pub(super) fn remove_rules(&mut self) -> Result<(), Error> {
        let table = self.options.name_prefix.clone();
        self.rules = Rules::default();
        match self.netfilter().and_then(|socket| ruleset::destroy(socket, &table)) {
            Err(error) if no_nftables(&error) => Ok(()),
            other => other.map_err(|source| Error::Nftables { source }),
        }
    }

    fn make_rules(&mut self) -> io::Result<()> {
        let subnets: Vec<_> = self.subnets().into_iter().collect();
        let masquerade = if self.options.masquerade { subnets.as_slice() } else { &[] };
        let ports: Vec<HostPort> = self.leases.values().flat_map(Lease::host_ports).collect();
        let options = self.options.clone();
        let socket = self.netfilter()?;
        ruleset::rebuild(
            socket,
            &options.name_prefix,
            &options.bridge,
            masquerade,
            &subnets,
            &ports,
        )?;
        self.rules.made = true;
        self.with_forgetter(Forgetter::survey);
        Ok(())
    }

    fn add_ports(&mut self, ports: &[HostPort]) -> io::Result<()> {
        let table = self.options.name_prefix.clone();
        ruleset::add(self.netfilter()?, &table, ports)
    }

    /// The kernel drops what leaves a device with a source of 127.0.0.0/8 unless the
    /// device is told otherwise; only done when the guard is in place.
    fn route_loopback(&mut self) -> Result<(), Error> {
        if self.rules.loopback {
            return Ok(());
        }
        let sysctl = format!("ipv4/conf/{}/route_localnet", self.options.bridge);
        write_sysctl(&sysctl, "1").map_err(Error::kernel("set sysctl", sysctl))?;
        self.rules.loopback = true;
        Ok(())
    }

    /// Takes that back once no pod needs it: `sandbox` is about to go.
    fn unroute_loopback(&mut self, sandbox: &str) {
        let still = |(name, lease): (&String, &Lease)| name != sandbox && has_ports(lease);
        if self.leases.iter().any(still) {
            return;
        }
        let sysctl = format!("ipv4/conf/{}/route_localnet", self.options.bridge);
        match write_sysctl(&sysctl, "0") {
            // The bridge is gone, or will be asked again when the next pod goes.
            Err(error) => tracing::debug!(%error, sysctl, "it cannot be turned off"),
            Ok(()) => self.rules.loopback = false,
        }
    }

    pub(super) fn netfilter(&mut self) -> io::Result<&mut Socket> {
        match &mut self.netfilter {
            Some(socket) => Ok(socket),
            empty => Ok(empty.insert(Socket::netfilter()?)),
        }
    }
}

fn has_ports(lease: &Lease) -> bool {
    !lease.port_mappings.is_empty()
}

fn no_nftables(error: &io::Error) -> bool {
    let unsupported = [libc::EPROTONOSUPPORT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT];
    error.raw_os_error().is_some_and(|code| unsupported.contains(&code))
}
