//! What is done inside a pod's namespace, with one visit to it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use super::{
    super::{
        Error,
        namespace::{self, within},
        netlink::{Messages, Socket},
        route::{self, Veth},
    },
    Builtin, INTERFACE, bridge, guard,
    lease::Lease,
    shaper,
};

const LOOPBACK_INDEX: u32 = 1;

impl Builtin {
    /// Brings up the loopback device of a namespace that another network serves.
    pub(in super::super) fn bring_up_loopback(
        &mut self,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let work = || -> io::Result<()> {
            let mut messages = Messages::new();
            route::set_up(&mut messages, LOOPBACK_INDEX);
            Socket::route()?.send_all(messages)
        };
        let outcome = within(self.home.as_fd(), namespace, work);
        self.came_home(outcome)?.map_err(Error::kernel("bring up", "the loopback device"))
    }

    /// Makes the pod's devices and configures them, with one visit to its namespace.
    pub(super) fn join(
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
        let (host, name) = (&mut self.route, &self.options.bridge);
        let check = self.options.source_check && !self.unguarded;
        let outcome = within(self.home.as_fd(), namespace, || {
            prepare()?;
            make(host, &veth, name)?;
            let checked = bring_up_port(host, lease, check)?;
            configure(&veth, lease).map(|()| checked)
        });
        if self.came_home(outcome)?? != check {
            self.unguarded = true;
            tracing::warn!(
                "the kernel has no filters of traffic control (sch_ingress, cls_bpf): pods can \
                 send with the addresses of others"
            );
        }
        Ok(())
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
}

/// Before the device is there, which inherits them: no router of the bridge may tell the pod its
/// routes, and an address that we assign needs no search for others.
fn prepare() -> Result<(), Error> {
    for sysctl in ["ipv6/conf/default/accept_ra", "ipv6/conf/default/accept_dad"] {
        match namespace::write_sysctl(sysctl, "0") {
            // Without IPv6 in the kernel there is nothing to turn off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(Error::kernel("set", format!("sysctl net/{sysctl}")))?,
        }
    }
    Ok(())
}

/// `host` is a socket of the host's.
fn make(host: &mut Socket, veth: &Veth<'_>, bridge: &str) -> Result<(), Error> {
    let mut messages = Messages::new();
    route::add_veth(&mut messages, veth);
    host.send_all(messages).map_err(|error| match error.raw_os_error() {
        Some(libc::EXFULL) => Error::BridgeFull { bridge: bridge.to_owned() },
        _ => Error::kernel("make", format!("device {}", veth.host))(error),
    })
}

/// The host's end is up only when nothing can come out of it that may not. Whether sources are
/// checked.
fn bring_up_port(host: &mut Socket, lease: &Lease, check: bool) -> Result<bool, Error> {
    let object = || format!("device {}", lease.link);
    let device = route::index_of(host, &lease.link).map_err(Error::kernel("find", object()))?;
    let checked = check && guard::install(host, device, lease)?;
    shaper::limit(host, device, lease, checked)?;
    let mut messages = Messages::new();
    route::configure_port(&mut messages, &lease.link);
    host.send_all(messages).map_err(Error::kernel("bring up", object()))?;
    Ok(checked)
}

/// With sockets of the pod's namespace.
fn configure(veth: &Veth<'_>, lease: &Lease) -> Result<(), Error> {
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
