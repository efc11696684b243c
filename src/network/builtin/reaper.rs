//! Removes the devices of pods that are gone, many at once and beside the way of callers.
//!
//! The kernel waits for other processors whenever a device goes, whether it is one or a
//! hundred. Most of the time the end of the pod's namespace has removed it already; what
//! is left after a moment is put into one group and removed with one call. The host then forgets
//! where the pod's addresses were: it keeps what it has learned of more than a hundred
//! neighbours that are gone. An address is given back when its device is gone.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use super::{
    super::{
        Error,
        netlink::{Messages, Socket},
        route,
    },
    guard::link_local,
    lease::Lease,
};

/// How long a device waits for the end of its namespace, and for company.
const PATIENCE: Duration = Duration::from_millis(100);
/// No more at once: nobody else changes the network meanwhile.
const AT_ONCE: usize = 64;
/// The group of devices on the way out; "cqrp".
const GROUP: u32 = 0x6371_7270;

/// The way to the thread that removes devices; it ends when this is dropped.
pub(super) struct Reaper {
    queue: Sender<Lease>,
    // Held for a push or a take.
    buried: Arc<Mutex<Vec<IpAddr>>>,
}

impl Reaper {
    /// Starts the thread with a socket of the host's namespace.
    pub(super) fn start(socket: Socket, bridge: String) -> Result<Self, Error> {
        let (queue, receiver) = channel();
        let buried = Arc::new(Mutex::new(Vec::new()));
        let done = buried.clone();
        thread::Builder::new()
            .name("network-reaper".to_owned())
            .spawn(move || run(socket, &bridge, &receiver, &done))
            .map_err(Error::kernel("start", "the thread that removes devices"))?;
        Ok(Self { queue, buried })
    }

    /// Removes the device of the lease soon.
    pub(super) fn bury(&self, lease: Lease) {
        if let Err(lost) = self.queue.send(lease) {
            // The thread is gone; garbage collection after a restart finds the device.
            self.give_back(&lost.0);
        }
    }

    /// The addresses whose devices have gone since the last call.
    pub(super) fn buried(&self) -> Vec<IpAddr> {
        std::mem::take(&mut *self.buried.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn give_back(&self, lease: &Lease) {
        self.buried.lock().unwrap_or_else(PoisonError::into_inner).extend(lease.ips());
    }
}

fn run(mut socket: Socket, bridge: &str, queue: &Receiver<Lease>, buried: &Mutex<Vec<IpAddr>>) {
    while let Ok(first) = queue.recv() {
        thread::sleep(PATIENCE);
        let leases: Vec<Lease> =
            std::iter::once(first).chain(queue.try_iter().take(AT_ONCE)).collect();
        remove(&mut socket, &leases);
        forget(&mut socket, bridge, &leases);
        let ips = leases.iter().flat_map(Lease::ips);
        buried.lock().unwrap_or_else(PoisonError::into_inner).extend(ips);
    }
}

fn remove(socket: &mut Socket, leases: &[Lease]) {
    let mut messages = Messages::new();
    let devices: Vec<String> = leases.iter().flat_map(Lease::devices).collect();
    for device in &devices {
        route::set_group(&mut messages, device, GROUP);
    }
    match socket.send(messages) {
        // All of them are gone already.
        Ok(refusals) if refusals.len() == devices.len() => return,
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot mark devices for their removal"),
    }
    let mut messages = Messages::new();
    route::delete_group(&mut messages, GROUP);
    match socket.send_all(messages) {
        // Their namespaces took them in between.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
        Err(error) => tracing::warn!(%error, "cannot remove the devices of pods"),
        Ok(()) => {}
    }
}

/// Those whom the host never spoke to are refused.
fn forget(socket: &mut Socket, bridge: &str, leases: &[Lease]) {
    let Ok(index) = route::index_of(socket, bridge) else { return };
    let mut messages = Messages::new();
    for lease in leases {
        let link_local = IpAddr::from(link_local(lease.mac()));
        let addresses = lease.ips().chain(lease.ips().any(|ip| ip.is_ipv6()).then_some(link_local));
        addresses.for_each(|address| route::delete_neighbour(&mut messages, index, address));
    }
    if let Err(error) = socket.send(messages) {
        tracing::debug!(%error, "neighbours that are gone are not forgotten");
    }
}
