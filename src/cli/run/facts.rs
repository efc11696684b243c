//! What pods are told of the node.

use std::{fs, io::Read, net::UdpSocket, path::Path};

use super::error::Error;
use crate::play::{Facts, Manifest};

/// Ranges of users for pods with namespaces of their own: those above are nobody's by default
/// (`/etc/subuid` begins at 100000 and is for people), and all fit below 2^31.
const RANGES: u32 = 16_000;
const FIRST_RANGE: u32 = 8_000;
const RANGE: u32 = 65_536;

/// An address that nobody has (RFC 5737): the way there is the default route.
const NOBODY: &str = "192.0.2.1:9";

/// The node as a pod is told of it, and a directory for the pod.
///
/// # Errors
/// Without random numbers.
pub(super) fn of_node(manifest: &Manifest, directory: &Path) -> Result<Facts, Error> {
    let mut random = [0; 20];
    let source = Path::new("/dev/urandom");
    let read = fs::File::open(source).and_then(|mut file| file.read_exact(&mut random));
    read.map_err(Error::io("read", source))?;
    let own = uid(&random);
    let range = u32::from_le_bytes([random[16], random[17], random[18], random[19]]) % RANGES;
    let directory = std::path::absolute(directory).map_err(Error::io("find", directory))?;
    Ok(Facts {
        directory: directory.join("pods").join(&own),
        uid: manifest.pod.metadata.uid.clone().unwrap_or(own),
        node_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        host_addresses: own_address().into_iter().collect(),
        pod_addresses: Vec::new(),
        memory: memory(),
        processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        first_user: (FIRST_RANGE + range) * RANGE,
    })
}

/// A random UUID (RFC 9562, version 4).
fn uid(random: &[u8; 20]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&random[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The address by which the node sends; nothing is sent for it.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(NOBODY).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = kib.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_a_directory_and_users_of_its_own() {
        let facts = || of_node(&Manifest::default(), Path::new("/d")).unwrap();
        let (one, other) = (facts(), facts());
        assert_ne!(one.directory, other.directory);
        assert_eq!(one.uid.len(), 36);
        assert!(one.first_user >= 1 << 29 && one.first_user.checked_add(RANGE).is_some());
        assert!(one.first_user + RANGE <= 1 << 31);
        assert!(one.memory > 0 && one.processors > 0);
    }
}
