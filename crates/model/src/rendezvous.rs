//! Rendezvous hashing: which of several hosts owns an address.
//!
//! Every host computes the same owner from the same list, without asking anyone, and when a host comes or
//! goes only the addresses it gains or had change their owner (Thaler, Ravishankar: "Using name-based
//! mappings to increase hit rates", 1998).
//!
//! The hash is part of the protocol between hosts of different versions and must never change: FNV-1a (64
//! bits) over the four octets of the address and the sixteen bytes of the host's id, finished by the mixing
//! steps of splitmix64, because FNV alone spreads a change of the last byte badly into the high bits. The
//! host with the largest hash owns; equal hashes go to the larger id.

use crate::HostId;
use std::net::IpAddr;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The owner of `address` among `hosts`, in whatever order they come; none if there are no hosts.
pub fn owner<'a>(address: IpAddr, hosts: impl IntoIterator<Item = &'a HostId>) -> Option<HostId> {
    hosts.into_iter().copied().max_by_key(|host| (score(address, *host), *host))
}

/// What a host gets for an address; the highest owns it.
pub fn score(address: IpAddr, host: HostId) -> u64 {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let id = host.uuid().into_bytes();
    let bytes = octets.into_iter().chain(id);
    let hash = bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use uuid::Uuid;

    fn host(number: u128) -> HostId {
        HostId::from_uuid(Uuid::from_u128(number))
    }

    fn hosts(count: u128) -> Vec<HostId> {
        (1..=count).map(host).collect()
    }

    fn addresses() -> impl Iterator<Item = IpAddr> {
        (0..2000u32).map(|n| Ipv4Addr::from(0xac16_0700 + n).into())
    }

    /// Other versions must compute the same: these numbers are for ever.
    #[test]
    fn the_hash_is_fixed() {
        let address = Ipv4Addr::new(172, 22, 7, 27).into();
        let scores: Vec<u64> = hosts(3).into_iter().map(|host| score(address, host)).collect();
        assert_eq!(scores, FIXED);
    }

    const FIXED: [u64; 3] = [0x62f8_9bee_9181_a5c1, 0xd9f6_246b_0afa_c8f9, 0xfda0_8f58_3bfd_358a];

    #[test]
    fn nobody_owns_without_hosts_and_the_only_host_owns_all() {
        assert_eq!(owner(Ipv4Addr::LOCALHOST.into(), &[]), None);
        assert!(addresses().all(|address| owner(address, &[host(9)]) == Some(host(9))));
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let forward = hosts(7);
        let backward: Vec<HostId> = forward.iter().rev().copied().collect();
        assert!(addresses().all(|address| owner(address, &forward) == owner(address, &backward)));
    }

    #[test]
    fn only_the_addresses_of_a_removed_host_move() {
        let all = hosts(5);
        for gone in &all {
            let rest: Vec<HostId> = all.iter().filter(|host| *host != gone).copied().collect();
            for address in addresses() {
                let before = owner(address, &all);
                let after = owner(address, &rest);
                assert!(before == after || before == Some(*gone), "{address}: {before:?} -> {after:?}");
            }
        }
    }

    #[test]
    fn addresses_spread_evenly() {
        let all = hosts(4);
        for host in &all {
            let share = addresses().filter(|address| owner(*address, &all) == Some(*host)).count();
            assert!((400..=600).contains(&share), "{host} owns {share} of 2000");
        }
    }
}
