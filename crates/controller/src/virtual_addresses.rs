//! Virtual addresses: addresses of allowed address pairs, and which port announced each last (VRRP).
//!
//! Agents tell; what they tell is a record for as long as it is allowed. Pure but for the transaction written to.

use crate::slices::host_of;
use model::resource::{Host, Port, VirtualAddress};
use model::slice::VirtualAddressId;
use model::{HostId, Mac, NetworkId, PortId};
use std::net::IpAddr;
use store::{Snapshot, Transaction};

/// Addresses one port may have: pairs may be prefixes.
const PER_PORT_MAX: usize = 64;

/// What an agent says of a port of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) host: HostId,
    pub(crate) port: PortId,
    pub(crate) address: IpAddr,
    pub(crate) mac: Mac,
}

/// The host that has a virtual address of that network, if a port there may have it.
pub(crate) fn host_of_address(snapshot: &Snapshot, network: NetworkId, address: IpAddr) -> Option<HostId> {
    let held = snapshot.get::<VirtualAddress>(VirtualAddressId { network, address })?;
    holder(snapshot, held).and_then(|port| host_of(snapshot, port))
}

/// The port that has it, unless that may not: it is gone, bound nowhere, no pair of it names the address (any more), or
/// the address is the fixed one of a VM that is there or of a router.
pub(crate) fn holder<'a>(snapshot: &'a Snapshot, held: &VirtualAddress) -> Option<&'a Port> {
    let port = snapshot.get::<Port>(held.port)?;
    let allowed = port.network == held.network && port.may_announce(held.address, held.mac);
    let owned = snapshot
        .ports_by_address(held.network, held.address)
        .any(|owner| owner.is_infrastructure() || host_of(snapshot, owner).is_some());
    (allowed && !owned && host_of(snapshot, port).is_some()).then_some(port)
}

/// Notes what was announced, if the port may.
pub(crate) fn note(transaction: &mut Transaction, announcement: Announcement) {
    let Announcement { host, port: id, address, mac } = announcement;
    let Some(port) = transaction.get::<Port>(id) else { return };
    let held = VirtualAddress { network: port.network, address, port: id, mac };
    let here = host_of(transaction, port) == Some(host);
    let others = transaction.virtual_addresses_of_network(port.network);
    let others = others.filter(|other| other.port == id && other.address != address).count();
    if !here || holder(transaction, &held).is_none() || others >= PER_PORT_MAX {
        let host = transaction.get::<Host>(host).map(|host| host.name.clone());
        tracing::warn!(port = %id, %address, %mac, ?host, "announced a virtual address that is not its to have");
        return;
    }
    tracing::info!(port = %id, %address, %mac, "virtual address moved");
    transaction.put(held);
}

/// Takes away those that may not be had any more.
pub(crate) fn prune(transaction: &mut Transaction) {
    let gone = transaction.virtual_addresses.iter().filter(|(_, held)| holder(transaction, held).is_none());
    let gone: Vec<VirtualAddressId> = gone.map(|(id, _)| *id).collect();
    for id in gone {
        transaction.remove::<VirtualAddress>(id);
    }
}
