//! The addresses of one subnet: which is the gateway's, which are free, which is next.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::super::Error;

/// A subnet from which pods get addresses, one after the other, so that an address that
/// was given back rests for as long as possible.
#[derive(Debug)]
pub(super) struct Pool {
    subnet: IpNet,
    base: u128,
    /// The last offset that may be handed out.
    last: u128,
    cursor: u128,
}

/// The gateway has the first address, pods the ones behind it.
const FIRST: u128 = 2;

impl Pool {
    /// A pool of the subnet, which must hold a gateway and at least one pod.
    pub(super) fn new(subnet: IpNet) -> Result<Self, Error> {
        let subnet = subnet.trunc();
        let host_bits = u32::from(subnet.max_prefix_len().saturating_sub(subnet.prefix_len()));
        // Offsets beyond 2^64 are never needed.
        let size = 1u128.checked_shl(host_bits.min(64)).unwrap_or(u128::MAX);
        // The last address of an IPv4 subnet is its broadcast address.
        let reserved = if subnet.addr().is_ipv4() { 2 } else { 1 };
        let last = size.saturating_sub(reserved);
        if last < FIRST {
            let reason = "it has no room for a gateway and a pod; take a larger one";
            return Err(Error::Subnet { subnet, reason });
        }
        Ok(Self { subnet, base: number(subnet.network()), last, cursor: FIRST })
    }

    /// The subnet.
    pub(super) fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// How many addresses there are for pods.
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.last.saturating_sub(FIRST).saturating_add(1)).unwrap_or(u64::MAX)
    }

    /// Where the search goes on.
    pub(super) fn cursor(&self) -> IpAddr {
        self.address(self.cursor)
    }

    /// Goes on where an earlier daemon stopped, if that is in this subnet.
    pub(super) fn go_on_at(&mut self, cursor: IpAddr) {
        if self.subnet.contains(&cursor) {
            self.cursor = number(cursor).saturating_sub(self.base).clamp(FIRST, self.last);
        }
    }

    /// The next address that is not in use.
    pub(super) fn next(&mut self, used: &HashSet<IpAddr>) -> Result<IpNet, Error> {
        let size = u128::from(self.size());
        // Of more candidates than there are addresses in use, one is free.
        let candidates = size.min(used.len() as u128 + 1);
        for _ in 0..candidates {
            let address = self.address(self.cursor);
            self.cursor = if self.cursor >= self.last { FIRST } else { self.cursor + 1 };
            if !used.contains(&address) {
                let prefix = self.subnet.prefix_len();
                return IpNet::new(address, prefix).map_err(|_| Error::Subnet {
                    subnet: self.subnet,
                    reason: "its prefix is too long",
                });
            }
        }
        let used = used.iter().filter(|address| self.subnet.contains(*address)).count();
        Err(Error::Exhausted { subnet: self.subnet, used })
    }

    fn address(&self, offset: u128) -> IpAddr {
        let value = self.base.saturating_add(offset);
        match self.subnet {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(value).unwrap_or(u32::MAX)).into(),
            IpNet::V6(_) => Ipv6Addr::from(value).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::IpAddr};

    use super::{Error, Pool};
    use crate::kind::Kind;

    fn pool(subnet: &str) -> Result<Pool, Error> {
        Pool::new(subnet.parse().unwrap())
    }

    fn take(pool: &mut Pool, used: &mut HashSet<IpAddr>) -> String {
        let address = pool.next(used).unwrap();
        assert!(used.insert(address.addr()));
        address.to_string()
    }

    #[test]
    fn gateway_network_and_broadcast_are_never_handed_out() {
        let mut pool = pool("10.1.0.7/29").unwrap();
        let mut used = HashSet::new();
        let all: Vec<String> = (0..5).map(|_| take(&mut pool, &mut used)).collect();
        assert_eq!(all[0], "10.1.0.2/29");
        assert_eq!(all[4], "10.1.0.6/29");
        let error = pool.next(&used).unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted);
        assert!(error.to_string().contains("10.1.0.0/29: 5 pods"), "{error}");
    }

    #[test]
    fn an_address_given_back_rests() {
        let mut pool = pool("fd00::/64").unwrap();
        let mut used = HashSet::new();
        assert_eq!(take(&mut pool, &mut used), "fd00::2/64");
        used.clear();
        assert_eq!(take(&mut pool, &mut used), "fd00::3/64");
    }

    #[test]
    fn the_search_wraps_and_goes_on_after_a_restart() {
        let mut used = HashSet::new();
        let mut first = pool("10.0.0.0/30").unwrap();
        assert_eq!(take(&mut first, &mut used), "10.0.0.2/30");
        used.clear();
        assert_eq!(take(&mut first, &mut used), "10.0.0.2/30");

        used.clear();
        let mut second = pool("10.0.0.0/24").unwrap();
        second.go_on_at("10.0.0.77".parse().unwrap());
        assert_eq!(take(&mut second, &mut used), "10.0.0.77/24");
        second.go_on_at("10.9.9.9".parse().unwrap());
        assert_eq!(take(&mut second, &mut used), "10.0.0.78/24");
        second.go_on_at("10.0.0.255".parse().unwrap());
        assert_eq!(take(&mut second, &mut used), "10.0.0.254/24");
    }

    #[test]
    fn a_subnet_without_room_is_refused() {
        for subnet in ["10.0.0.0/31", "10.0.0.1/32", "fd00::/127", "fd00::/128"] {
            assert!(pool(subnet).is_err(), "{subnet}");
        }
        assert!(pool("fd00::/126").is_ok());
        assert!(pool("::/0").is_ok());
    }
}
