//! Where addresses are. A registry is a stranger, and must not send this node's requests to
//! what only the node reaches: its own services, its neighbours, the metadata of its cloud. So
//! redirects and token services lead to public addresses, or to where the registry itself is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// A part of the address space by who reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    Public,
    /// Of one organisation, or of one provider's customers.
    Private,
    /// Of one cable; clouds have their metadata there.
    LinkLocal,
    /// Of this machine.
    Loopback,
}

impl Zone {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }
}

fn of_v4(address: Ipv4Addr) -> Zone {
    match address.octets() {
        [0 | 127, ..] => Zone::Loopback,
        [169, 254, ..] => Zone::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Zone::Private,
        // Shared by a provider's customers, protocols' own, benchmarks.
        [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18..=19, ..] => Zone::Private,
        // To many or to all.
        [224..=255, ..] => Zone::LinkLocal,
        _ => Zone::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Zone {
    if let Some(inner) = embedded(address) {
        return of_v4(inner);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Zone::Loopback,
        [0xfe80..=0xfebf | 0xff00..=0xffff, ..] => Zone::LinkLocal,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Zone::Private,
        _ => Zone::Public,
    }
}

/// The IPv4 address that an IPv6 address stands for.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped, compatible, translated (RFC 6052), and 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            v4(high, low)
        }
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

/// The zones that requests may be sent to: that of the public, and those of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Zones(u8);

impl Zones {
    /// Those of a registry at these addresses.
    pub(super) fn around(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let bit = |zone| 1 << zone as u8;
        let own = addresses.into_iter().map(Zone::of);
        Self(own.fold(bit(Zone::Public), |zones, zone| zones | bit(zone)))
    }

    pub(super) fn allow(self, address: IpAddr) -> bool {
        self.0 & 1 << Zone::of(address) as u8 != 0
    }
}

/// The address that a URL gives instead of a name.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_zone() {
        for (address, zone) in [
            ("1.1.1.1", Zone::Public),
            ("172.15.0.1", Zone::Public),
            ("172.32.0.1", Zone::Public),
            ("100.128.0.1", Zone::Public),
            ("10.0.0.1", Zone::Private),
            ("172.16.0.1", Zone::Private),
            ("192.168.255.1", Zone::Private),
            ("100.64.0.1", Zone::Private),
            ("169.254.169.254", Zone::LinkLocal),
            ("255.255.255.255", Zone::LinkLocal),
            ("127.8.9.1", Zone::Loopback),
            ("0.0.0.0", Zone::Loopback),
            ("2606:4700::1", Zone::Public),
            ("fd00::1", Zone::Private),
            ("fec0::1", Zone::Private),
            ("fe80::1", Zone::LinkLocal),
            ("ff02::1", Zone::LinkLocal),
            ("::1", Zone::Loopback),
            ("::", Zone::Loopback),
            ("::ffff:127.0.0.1", Zone::Loopback),
            ("::ffff:1.1.1.1", Zone::Public),
            ("::169.254.169.254", Zone::LinkLocal),
            ("64:ff9b::a9fe:a9fe", Zone::LinkLocal),
            ("2002:7f00:1::", Zone::Loopback),
            ("2002:0101:101::", Zone::Public),
        ] {
            assert_eq!(Zone::of(address.parse().unwrap()), zone, "{address}");
        }
    }

    #[test]
    fn a_registry_leads_to_the_public_and_to_its_own_zone() {
        let loopback = "127.0.0.1";
        let (private, metadata, public) = ("192.168.7.7", "169.254.169.254", "9.9.9.9");
        for (registry, target, allowed) in [
            (&[public][..], public, true),
            (&[public], private, false),
            (&[public], metadata, false),
            (&[public], loopback, false),
            (&[private], "10.9.8.7", true),
            (&[private], loopback, false),
            (&[private], metadata, false),
            (&[loopback], "::1", true),
            (&[loopback], private, false),
            (&[loopback], public, true),
            (&[public, private], private, true),
            (&[], private, false),
            (&[], public, true),
        ] {
            let addresses = registry.iter().map(|address| address.parse().unwrap());
            let zones = Zones::around(addresses);
            assert_eq!(zones.allow(target.parse().unwrap()), allowed, "{registry:?} {target}");
        }
    }

    #[test]
    fn numbers_of_every_form_are_addresses() {
        for (url, address) in [
            ("http://2130706433/x", Some("127.0.0.1")),
            ("http://0x7f.1/x", Some("127.0.0.1")),
            ("http://[::ffff:a9fe:a9fe]:80/x", Some("::ffff:169.254.169.254")),
            ("http://metadata.internal/x", None),
        ] {
            let found = literal(&Url::parse(url).unwrap());
            assert_eq!(found, address.map(|text| text.parse().unwrap()), "{url}");
        }
    }
}
