//! Host ports of SCTP, with packets made by hand: the kernel of a node without SCTP translates
//! it all the same.

use std::{
    net::{SocketAddr, UdpSocket},
    num::NonZero,
    path::Path,
};

use rustix::net::{AddressFamily, Protocol as Number, SocketFlags, SocketType, socket_with};

use super::{
    bridge::connect_to_world,
    harness::{Host, LIMIT, Pod, on_a_host},
};
use crate::network::Protocol;

/// The chunks that open an association, and their answer (RFC 9260, 3.3.2 and 3.3.3).
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const TAG: u32 = 0x1234_5678;

/// A socket for SCTP packets as they are, in the namespace of the calling thread. What it
/// receives begins with the header of IPv4, of 20 bytes.
fn raw_socket() -> UdpSocket {
    let number = Number::from_raw(NonZero::new(132).unwrap());
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(number)).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Ports, verification tag, checksum, and one chunk.
fn packet(source: u16, target: u16, tag: u32, chunk: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.to_be_bytes());
    bytes.extend(target.to_be_bytes());
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([chunk, 0, 0, 20]);
    // The own tag, the window, streams out and in, the first number.
    for word in [TAG, 65_536, 1 << 16 | 1, 1] {
        bytes.extend(word.to_be_bytes());
    }
    let checksum = crc32c(&bytes);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// Source and destination port of a packet that is whole.
fn ports_of(received: &[u8], chunk: u8) -> (u16, u16) {
    let mut packet = received[20..].to_vec();
    let checksum = packet[8..12].to_vec();
    packet[8..12].fill(0);
    assert_eq!(crc32c(&packet).to_le_bytes()[..], checksum, "the checksum is translated as well");
    assert_eq!(packet[12], chunk);
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    (port(0), port(2))
}

#[test]
fn a_host_port_of_sctp_leads_to_the_pod_and_back() {
    on_a_host(|| {
        if !Path::new("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established").exists() {
            eprintln!("SKIPPED: the kernel does not track SCTP (CONFIG_NF_CT_PROTO_SCTP)");
            return;
        }
        let world = Pod::new("world");
        connect_to_world(&world);
        let host = Host::new();
        let pod = Pod::new("one").with_port(Protocol::Sctp, 8080, 80);
        // The same number in another protocol is somebody else's.
        let other = Pod::new("two").with_port(Protocol::Tcp, 8080, 81);
        host.set_up(&pod);
        host.set_up(&other);
        let (inside, outside) = (pod.inside(raw_socket), world.inside(raw_socket));
        let to = |address: &str| SocketAddr::new(address.parse().unwrap(), 0);
        outside.send_to(&packet(4000, 8080, 0, INIT), to("192.0.2.1")).unwrap();
        let mut buffer = [0; 1500];
        let (length, from) = inside.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip(), to("192.0.2.2").ip());
        assert_eq!(ports_of(&buffer[..length], INIT), (4000, 80));
        inside.send_to(&packet(80, 4000, TAG, INIT_ACK), to("192.0.2.2")).unwrap();
        let (length, from) = outside.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip(), to("192.0.2.1").ip());
        assert_eq!(ports_of(&buffer[..length], INIT_ACK), (8080, 4000));
    });
}
