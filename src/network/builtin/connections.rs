//! Forgets connections that the kernel tracks although their host port leads elsewhere.
//!
//! UDP has no end of a connection: while a client goes on sending, the kernel goes on
//! translating as it did for the first packet, to a pod that is gone or to the host
//! itself. TCP needs no such care, a new connection is translated anew.
//!
//! To find them the kernel looks at all of its table, ten milliseconds long and more even where it
//! is empty, and others of the processor wait. So it is done only for ports that a client has sent
//! to, which the rules know ([`ruleset`]); beside the way of callers, once for all that wait. What
//! clients did before there were rules is looked up when these are made.

use std::{
    collections::HashSet,
    io, iter,
    sync::mpsc::{Sender, channel},
    thread,
};

use super::{
    super::netlink::{Messages, Socket, attributes},
    ruleset,
};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const DUMP: u16 = 0x300;
const NESTED: u16 = 0x8000;

const ORIGINAL_TUPLE: u16 = 1;
const IDENTITY: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
const UDP: u8 = 17;
/// `CTA_FILTER`, and in it what of the tuple counts: the protocol, and the destination port.
const FILTER: u16 = 25;
const ORIGINAL_FLAGS: u16 = 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_PORT: u32 = BY_PROTOCOL | 1 << 5;
/// IPv4 and IPv6.
const FAMILIES: [u8; 2] = [2, 10];
const HEADER: usize = 4;
/// A busy port has more connections than the kernel takes removals at once.
const DATAGRAM: usize = 1 << 15;

/// What the thread is to do.
enum Job {
    /// Learn where clients send that were there before the rules.
    Survey,
    /// Forget the connections to these ports.
    Forget(HashSet<u16>),
}

/// The way to the thread that forgets; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Forgetter {
    jobs: Sender<Job>,
}

impl Forgetter {
    /// Starts the thread, in the network namespace of the calling one, for the rules of the table.
    pub(super) fn start(table: String) -> io::Result<Self> {
        let mut socket = Socket::netfilter()?;
        let (jobs, queue) = channel::<Job>();
        let run = move || {
            while let Ok(first) = queue.recv() {
                let mut ports = HashSet::new();
                for job in iter::once(first).chain(queue.try_iter()) {
                    match job {
                        Job::Survey => survey(&mut socket, &table),
                        Job::Forget(more) => ports.extend(more),
                    }
                }
                if let Err(error) = forget_asked(&mut socket, &table, &ports) {
                    tracing::warn!(%error, ?ports, "clients may reach an earlier pod for a while");
                }
            }
        };
        thread::Builder::new().name("network-udp".to_owned()).spawn(run)?;
        Ok(Self { jobs })
    }

    /// Learns where clients send, after rules were made that saw none of them begin.
    pub(super) fn survey(&self) {
        self.queue(Job::Survey);
    }

    /// Forgets the UDP connections to these ports, soon.
    pub(super) fn forget(&self, ports: HashSet<u16>) {
        self.queue(Job::Forget(ports));
    }

    fn queue(&self, job: Job) {
        // The thread lives as long as this.
        let _ = self.jobs.send(job);
    }
}

fn survey(socket: &mut Socket, table: &str) {
    let mut ports = HashSet::new();
    let mut note = |port, _: &[u8]| {
        ports.insert(port);
    };
    let result =
        FAMILIES.into_iter().try_for_each(|family| each_udp(socket, family, None, &mut note));
    let ports: Vec<u16> = ports.into_iter().collect();
    if let Err(error) = result.and_then(|()| ruleset::remember(socket, table, &ports)) {
        tracing::warn!(%error, "UDP clients may reach the host in the place of a pod for a while");
    }
}

fn forget_asked(socket: &mut Socket, table: &str, ports: &HashSet<u16>) -> io::Result<()> {
    let mut asked = HashSet::new();
    for port in ports {
        if ruleset::take_asked(socket, table, *port)? {
            asked.insert(*port);
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    FAMILIES.into_iter().try_for_each(|family| forget(socket, family, &asked))
}

fn forget(socket: &mut Socket, family: u8, ports: &HashSet<u16>) -> io::Result<()> {
    // Of several ports it is cheaper to be told of all than to ask for each.
    let only = ports.iter().next().filter(|_| ports.len() == 1).copied();
    let mut removals: Vec<Messages> = Vec::new();
    each_udp(socket, family, only, |port, body| {
        if !ports.contains(&port) {
            return;
        }
        match removals.last_mut().filter(|removal| removal.size() < DATAGRAM) {
            Some(removal) => add_removal(removal, body),
            None => {
                let mut removal = Messages::new();
                add_removal(&mut removal, body);
                removals.push(removal);
            }
        }
    })?;
    for removal in removals {
        // A connection that ended meanwhile is refused, which is as good.
        socket.send(removal)?;
    }
    Ok(())
}

/// Looks at the UDP connections of a family, or at those to one port: the port that a client sends
/// to, and all that the kernel says.
fn each_udp(
    socket: &mut Socket,
    family: u8,
    only: Option<u16>,
    mut look: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    let mut question = Messages::new();
    question.begin(SUBSYSTEM << 8 | GET, DUMP, &[family, 0, 0, 0]);
    // The kernel has hundreds of thousands of them on a busy node; from Linux 5.8 on it tells
    // only those that are asked for.
    question.nest(ORIGINAL_TUPLE, |tuple| {
        tuple.nest(TUPLE_PROTOCOL, |protocol| {
            protocol.put(PROTOCOL_NUMBER, &[UDP]);
            if let Some(port) = only {
                protocol.put(DESTINATION_PORT, &port.to_be_bytes());
            }
        });
    });
    let by = if only.is_some() { BY_PORT } else { BY_PROTOCOL };
    question.nest(FILTER, |filter| filter.put(ORIGINAL_FLAGS, &by.to_ne_bytes()));
    socket.ask_each(question, |body| {
        if let Some(port) = destination(body) {
            look(port, body);
        }
    })
}

/// The port that a UDP client sends to.
fn destination(body: &[u8]) -> Option<u16> {
    let (_, tuple) = attributes(body, HEADER).find(|(kind, _)| *kind == ORIGINAL_TUPLE)?;
    let (_, protocol) = attributes(tuple, 0).find(|(kind, _)| *kind == TUPLE_PROTOCOL)?;
    let field = |wanted| attributes(protocol, 0).find(|(kind, _)| *kind == wanted);
    if field(PROTOCOL_NUMBER)?.1 != [UDP] {
        return None;
    }
    Some(u16::from_be_bytes(field(DESTINATION_PORT)?.1.try_into().ok()?))
}

fn add_removal(removal: &mut Messages, body: &[u8]) {
    let family = body.first().copied().unwrap_or_default();
    removal.begin(SUBSYSTEM << 8 | DELETE, 0, &[family, 0, 0, 0]);
    for (kind, payload) in attributes(body, HEADER) {
        match kind {
            ORIGINAL_TUPLE => removal.put(kind | NESTED, payload),
            IDENTITY | ZONE => removal.put(kind, payload),
            _ => {}
        }
    }
}
