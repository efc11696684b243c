//! Forgets connections that the kernel tracks although their host port leads elsewhere.
//!
//! UDP has no end of a connection: while a client goes on sending, the kernel goes on
//! translating as it did for the first packet, to a pod that is gone or to the host
//! itself. TCP needs no such care, a new connection is translated anew.

use std::{collections::HashSet, io};

use super::super::netlink::{Messages, Socket, attributes};

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
/// `CTA_FILTER`, and in it what of the tuple counts: protocol and destination port.
const FILTER: u16 = 25;
const ORIGINAL_FLAGS: u16 = 1;
const BY_PORT: u32 = 1 << 3 | 1 << 5;
/// IPv4 and IPv6.
const FAMILIES: [u8; 2] = [2, 10];
const HEADER: usize = 4;
/// A busy port has more connections than the kernel takes removals at once.
const DATAGRAM: usize = 1 << 15;

/// Forgets the UDP connections to these ports.
pub(super) fn forget_udp(socket: &mut Socket, ports: &HashSet<u16>) -> io::Result<()> {
    for port in ports {
        for family in FAMILIES {
            forget(socket, family, *port)?;
        }
    }
    Ok(())
}

fn forget(socket: &mut Socket, family: u8, port: u16) -> io::Result<()> {
    let mut question = Messages::new();
    question.begin(SUBSYSTEM << 8 | GET, DUMP, &[family, 0, 0, 0]);
    // The kernel has hundreds of thousands of them on a busy node; from Linux 5.8 on it tells
    // only those that are asked for.
    question.nest(ORIGINAL_TUPLE, |tuple| {
        tuple.nest(TUPLE_PROTOCOL, |protocol| {
            protocol.put(PROTOCOL_NUMBER, &[UDP]);
            protocol.put(DESTINATION_PORT, &port.to_be_bytes());
        });
    });
    question.nest(FILTER, |filter| filter.put(ORIGINAL_FLAGS, &BY_PORT.to_ne_bytes()));
    let mut removals: Vec<Messages> = Vec::new();
    socket.ask_each(question, |body| {
        if destination(body) != Some(port) {
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
