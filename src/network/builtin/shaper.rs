//! How fast a pod may send and receive: the annotations of Kubernetes, by traffic control.
//!
//! What the pod receives is what the host's end of its devices sends. What the pod sends comes
//! in there, where nothing can wait: it is led through a device in between (`ifb`), whose name
//! is that of the pod's with another beginning.

use std::io;

use super::{
    super::{
        Error,
        bandwidth::Bandwidth,
        netlink::{Messages, Socket},
        route, tc,
    },
    lease::{LINK_PREFIX, Lease, SHAPER_PREFIX},
};

/// The number of the filter; the one that checks sources comes before it.
const NUMBER: u16 = 2;

/// Limits a pod whose host's end is `device`, and has filters already where `has_filters`.
pub(super) fn limit(
    host: &mut Socket,
    device: u32,
    lease: &Lease,
    has_filters: bool,
) -> Result<(), Error> {
    let Bandwidth { ingress, egress } = lease.bandwidth();
    let mut work = || -> io::Result<()> {
        let mut messages = Messages::new();
        if let Some(rate) = ingress {
            tc::add_limit(&mut messages, device, rate / 8);
        }
        if let Some(rate) = egress {
            let name = lease.shaper();
            let mut making = Messages::new();
            route::add_ifb(&mut making, &name);
            host.send_all(making)?;
            let between = route::index_of(host, &name)?;
            tc::add_limit(&mut messages, between, rate / 8);
            if !has_filters {
                tc::add_filters(&mut messages, device);
            }
            tc::add_redirect(&mut messages, device, NUMBER, between);
        }
        host.send_all(messages)
    };
    if ingress.or(egress).is_none() {
        return Ok(());
    }
    work().map_err(|source| Error::Bandwidth { source })
}

/// The devices in between that belong to no device any more, by the names of all devices.
pub(super) fn orphans(names: &[String]) -> Vec<String> {
    let has_pod = |digits: &str| {
        names.iter().any(|name| name.strip_prefix(LINK_PREFIX).is_some_and(|own| own == digits))
    };
    let is_orphan = |name: &&String| {
        name.strip_prefix(SHAPER_PREFIX)
            .is_some_and(|digits| digits.len() == 13 && !has_pod(digits))
    };
    names.iter().filter(is_orphan).cloned().collect()
}
