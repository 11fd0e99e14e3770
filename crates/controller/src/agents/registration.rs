//! A host enters the model, or comes back: the agent's Hello as a change of the store.

use model::resource::Host;
use model::{HostId, Mac};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use store::{Snapshot, StoreError, Transaction};

/// Physical networks of one host: far above what a machine has slots for.
const PHYSICAL_NETWORKS_MAX: usize = 64;
/// Octets of a DVR MAC below the base.
const DVR_MAC_BITS: u32 = 24;

/// Why a host is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("'{0}' is not the IPv4 address of a host's tunnel end")]
    BadVtep(String),
    #[error("'{0}' cannot be the name of a physical network: 1 to 64 characters without spaces")]
    BadPhysicalNetwork(String),
    #[error("{0} physical networks are more than the {PHYSICAL_NETWORKS_MAX} a host may have")]
    TooManyPhysicalNetworks(usize),
    #[error(
        "tunnel address {vtep} is that of host '{owner}': give this host its own, or delete host '{owner}'"
    )]
    VtepTaken { vtep: Ipv4Addr, owner: String },
    #[error("every MAC address from the base {0} on is taken by a host")]
    NoDvrMac(Mac),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A checked Hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub name: String,
    pub vtep: Ipv4Addr,
    pub physical_networks: Vec<String>,
    pub version: String,
}

impl Registration {
    /// # Errors
    /// The field that is wrong, and why.
    pub fn new(hello: proto::Hello) -> Result<Self, Refused> {
        let vtep = hello.vtep.parse().ok().filter(is_host_address);
        let vtep = vtep.ok_or(Refused::BadVtep(hello.vtep))?;
        if hello.physical_networks.len() > PHYSICAL_NETWORKS_MAX {
            return Err(Refused::TooManyPhysicalNetworks(hello.physical_networks.len()));
        }
        let is_name = |name: &str| (1..=64).contains(&name.len()) && !name.contains(char::is_whitespace);
        if let Some(name) = hello.physical_networks.iter().find(|name| !is_name(name)) {
            return Err(Refused::BadPhysicalNetwork(name.clone()));
        }
        let physical_networks: BTreeSet<String> = hello.physical_networks.into_iter().collect();
        Ok(Self {
            name: hello.host_name,
            vtep,
            physical_networks: physical_networks.into_iter().collect(),
            version: hello.version.chars().take(64).collect(),
        })
    }
}

fn is_host_address(address: &Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
}

/// Inserts the host, or updates what its agent says of it. Id, DVR MAC, drain, description and liveness of a known
/// host stay.
///
/// # Errors
/// `VtepTaken`, `NoDvrMac`; nothing is changed then.
pub fn register(
    transaction: &mut Transaction,
    registration: &Registration,
    base: Mac,
    now_s: i64,
) -> Result<Host, Refused> {
    let Registration { name, vtep, physical_networks, version } = registration;
    let clash = |host: &&std::sync::Arc<Host>| host.vtep == *vtep && host.name != *name;
    if let Some(owner) = transaction.hosts.values().find(clash) {
        return Err(Refused::VtepTaken { vtep: *vtep, owner: owner.name.clone() });
    }
    let known = transaction.host_by_name(name).map(|host| Host::clone(host));
    let host = match known {
        Some(host) => Host {
            vtep: *vtep,
            physical_networks: physical_networks.clone(),
            version: version.clone(),
            started_at: now_s,
            ..host
        },
        None => Host {
            id: HostId::random(),
            name: name.clone(),
            vtep: *vtep,
            dvr_mac: free_dvr_mac(transaction, base).ok_or(Refused::NoDvrMac(base))?,
            physical_networks: physical_networks.clone(),
            version: version.clone(),
            created_at: now_s,
            started_at: now_s,
            drained: false,
            description: String::new(),
            live: false,
        },
    };
    transaction.put(host.clone());
    Ok(host)
}

/// The lowest MAC above the base that no host has. The base itself is nobody's.
fn free_dvr_mac(snapshot: &Snapshot, base: Mac) -> Option<Mac> {
    let used: BTreeSet<Mac> = snapshot.hosts.values().map(|host| host.dvr_mac).collect();
    let base = number(base);
    let end = ((base >> DVR_MAC_BITS) + 1) << DVR_MAC_BITS;
    // One more candidate than hosts is enough to find a gap.
    (base + 1..end).take(used.len() + 1).map(mac).find(|mac| !used.contains(mac))
}

fn number(mac: Mac) -> u64 {
    mac.0.iter().fold(0, |number, octet| (number << 8) | u64::from(*octet))
}

fn mac(number: u64) -> Mac {
    let [_, _, octets @ ..] = number.to_be_bytes();
    Mac(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Store;

    const BASE: Mac = Mac([0xfa, 0x16, 0x3f, 0, 0, 0]);

    fn hello(name: &str, vtep: &str) -> proto::Hello {
        proto::Hello {
            host_name: name.into(),
            vtep: vtep.into(),
            physical_networks: vec!["physnet2".into(), "physnet1".into(), "physnet2".into()],
            version: "0.1.0".into(),
            ipv6: true,
        }
    }

    fn enter(store: &Store, name: &str, vtep: &str) -> Result<Host, Refused> {
        let registration = Registration::new(hello(name, vtep))?;
        store.transact(|transaction| register(transaction, &registration, BASE, 1000))
    }

    #[test]
    fn hosts_get_macs_of_their_own_from_the_base_up() {
        let store = Store::open(None).unwrap();
        let first = enter(&store, "ahv01", "10.0.0.1").unwrap();
        let second = enter(&store, "ahv02", "10.0.0.2").unwrap();
        assert_eq!(first.dvr_mac.to_string(), "fa:16:3f:00:00:01");
        assert_eq!(second.dvr_mac.to_string(), "fa:16:3f:00:00:02");
        assert_eq!(first.physical_networks, ["physnet1", "physnet2"]);
        store.transact::<_, StoreError>(|t| Ok(t.remove::<Host>(first.id))).unwrap();
        let third = enter(&store, "ahv03", "10.0.0.3").unwrap();
        assert_eq!(third.dvr_mac, first.dvr_mac, "a gap is filled");
    }

    #[test]
    fn a_host_that_comes_back_keeps_what_it_was() {
        let store = Store::open(None).unwrap();
        let before = enter(&store, "ahv01", "10.0.0.1").unwrap();
        let description = "rack 7".to_owned();
        let drained = Host { drained: true, live: true, description, ..before.clone() };
        let put = store.transact::<_, StoreError>(|transaction| {
            transaction.put(drained.clone());
            Ok(())
        });
        put.unwrap();
        let after = enter(&store, "ahv01", "10.0.0.9").unwrap();
        assert_eq!(after, Host { vtep: "10.0.0.9".parse().unwrap(), ..drained });
    }

    #[test]
    fn a_vtep_belongs_to_one_host() {
        let store = Store::open(None).unwrap();
        enter(&store, "ahv01", "10.0.0.1").unwrap();
        let refused = enter(&store, "ahv02", "10.0.0.1").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "tunnel address 10.0.0.1 is that of host 'ahv01': give this host its own, or delete host 'ahv01'"
        );
        assert_eq!(store.snapshot().hosts.len(), 1);
    }

    #[test]
    fn refuses_a_hello_that_makes_no_sense() {
        for vtep in ["", "10.0.0", "::1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.0.0.1/24"] {
            assert!(matches!(Registration::new(hello("ahv01", vtep)), Err(Refused::BadVtep(_))), "{vtep}");
        }
        let mut bad = hello("ahv01", "10.0.0.1");
        bad.physical_networks.push("two words".into());
        assert!(matches!(Registration::new(bad), Err(Refused::BadPhysicalNetwork(_))));
        let mut bad = hello("ahv01", "10.0.0.1");
        bad.physical_networks = (0..65).map(|n| format!("physnet{n}")).collect();
        assert!(matches!(Registration::new(bad), Err(Refused::TooManyPhysicalNetworks(65))));
    }

    #[test]
    fn the_last_octets_of_the_base_bound_the_macs() {
        let store = Store::open(None).unwrap();
        let base = Mac([0xfa, 0x16, 0x3f, 0xff, 0xff, 0xfe]);
        let enter = |name: &str, vtep: &str| {
            let registration = Registration::new(hello(name, vtep))?;
            store.transact(|transaction| register(transaction, &registration, base, 1000))
        };
        assert_eq!(enter("ahv01", "10.0.0.1").unwrap().dvr_mac.to_string(), "fa:16:3f:ff:ff:ff");
        assert!(matches!(enter("ahv02", "10.0.0.2"), Err(Refused::NoDvrMac(_))));
    }
}
