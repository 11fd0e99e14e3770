//! Addresses of allowed address pairs that move between VMs, as VRRP does it: one VM announces the address, and
//! whoever sends to it has to find it there within a second.
//!
//! The host of the VM believes it if a pair of its port names address and MAC; then it tells the controller, the other
//! hosts of the VPC directly, so that the address moves without a controller too, and the VMs of the network, which may
//! still have the former MAC. Each of the others checks the same against its own slice. What was heard is written into
//! the slice at once; it stands until the controller changes what it says of the address.

use super::Machine;
use crate::answer::{self, Outgoing};
use crate::discovery::Speaker;
use model::slice::{Delta, Object, ObjectId, Slice, VirtualAddress, VirtualAddressId};
use model::{HostId, Mac, NetworkId, PortId};
use packet::compose::{ArpSender, arp_announcement, arp_announcement_reply};
use pipeline::Ingress;
use pipeline::event::Event;
use pipeline::host::encapsulate;
use proto::agent_message::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// Addresses one port may have by announcing them: pairs may be prefixes.
const PER_PORT_MAX: usize = 64;
/// Moves to one port: a burst of as many as it may have addresses, then one in this time.
const MOVE_EVERY: Duration = Duration::from_millis(125);

#[derive(Debug, Default)]
pub(super) struct VirtualAddresses {
    /// What the controller says of those that were heard to be elsewhere since.
    told: BTreeMap<VirtualAddressId, Option<VirtualAddress>>,
    /// When a port that moved addresses to itself will have paid for them.
    paid: BTreeMap<PortId, Instant>,
    /// Moved, and to be told on once the tables say so.
    moved: BTreeSet<VirtualAddressId>,
    /// The same, now that they do.
    due: BTreeSet<VirtualAddressId>,
    /// Announcements that were not believed.
    refused: u64,
}

impl VirtualAddresses {
    /// Whether the port may have one more, this soon.
    fn pay(&mut self, now: Instant, port: PortId) -> bool {
        self.paid.retain(|_, until| *until > now);
        let until = self.paid.get(&port).copied().unwrap_or(now) + MOVE_EVERY;
        let affordable = until <= now + MOVE_EVERY * PER_PORT_MAX as u32;
        if affordable {
            self.paid.insert(port, until);
        }
        affordable
    }
}

impl Machine {
    pub(crate) fn announcements_refused(&self) -> u64 {
        self.virtual_addresses.refused
    }

    /// A VM announced an address, here or on the host that the event came from.
    pub(super) fn announced(&mut self, now: Instant, event: &Event) {
        let heard = self.heard(event);
        let believed = heard.filter(|(id, holder)| self.may_hold(*id, holder));
        let Some((id, holder)) = believed else {
            self.virtual_addresses.refused += 1;
            return;
        };
        let Some(slice) = &mut self.slice else { return };
        let former = slice.virtual_addresses.get(&id).copied();
        if former == Some(holder) {
            return;
        }
        if !self.virtual_addresses.pay(now, holder.port) {
            self.virtual_addresses.refused += 1;
            return;
        }
        self.virtual_addresses.told.entry(id).or_insert(former);
        slice.hold(id, Some(holder));
        tracing::info!(network = %id.network, address = %id.address, port = %holder.port, "virtual address moved");
        self.stale = true;
        self.unsaved_since.get_or_insert(now);
        self.virtual_addresses.moved.insert(id);
        if self.connected && event.ingress != Ingress::TUNNEL_ID {
            self.outbox.push(told(id, &holder));
        }
    }

    /// Which address of which network, and the port that says so.
    fn heard(&self, event: &Event) -> Option<(VirtualAddressId, VirtualAddress)> {
        let slice = self.slice.as_ref()?;
        let (mac, address) = answer::said(event)?;
        let mac = Mac(mac.0);
        let port = if event.ingress == Ingress::TUNNEL_ID {
            let host = self.host_of(event.vtep)?;
            let (network, _) = slice.networks.iter().find(|(_, network)| network.vni.get() == event.vni)?;
            let there =
                slice.ports.iter().filter(|(_, port)| port.host == Some(host) && port.network == *network);
            // Of several with the pair, the one whose own MAC it is.
            let mut able = there.filter(|(_, port)| port.may_announce(address, mac));
            *able.clone().find(|(_, port)| port.mac == mac).or_else(|| able.next())?.0
        } else {
            self.local_ports().find(|(_, link)| link.index == event.ingress)?.0
        };
        let network = slice.ports.get(&port)?.network;
        Some((VirtualAddressId { network, address }, VirtualAddress { port, mac }))
    }

    fn host_of(&self, vtep: pipeline::Address) -> Option<HostId> {
        let vtep = Ipv4Addr::from(vtep.to_v4());
        let hosts = &self.slice.as_ref()?.hosts;
        hosts.iter().find(|(_, host)| host.vtep == vtep).map(|(id, _)| *id)
    }

    /// By a pair of its port, and it has not too many already. What the model gives to another is the compiler's to keep.
    fn may_hold(&self, id: VirtualAddressId, holder: &VirtualAddress) -> bool {
        let Some(slice) = &self.slice else { return false };
        let allowed =
            slice.ports.get(&holder.port).is_some_and(|port| port.may_announce(id.address, holder.mac));
        let others =
            slice.virtual_addresses.iter().filter(|(held, by)| **held != id && by.port == holder.port);
        allowed && others.count() < PER_PORT_MAX
    }

    /// A snapshot came. What was heard stands unless the controller says something new.
    pub(super) fn snapshot(&mut self, now: Instant, mut slice: Slice) {
        let own = self.welcome.as_ref().map(|welcome| welcome.host);
        let heard: Vec<_> = self.virtual_addresses.told.keys().copied().collect();
        for id in heard {
            let said = slice.virtual_addresses.get(&id).copied();
            let held = self.slice.as_ref().and_then(|slice| slice.virtual_addresses.get(&id)).copied();
            if self.virtual_addresses.told.get(&id) != Some(&said) || held.is_none() || held == said {
                self.virtual_addresses.told.remove(&id);
                continue;
            }
            slice.hold(id, held);
            let port = held.and_then(|holder| slice.ports.get(&holder.port));
            if let Some(holder) = held.filter(|_| own.is_some() && port.and_then(|port| port.host) == own) {
                self.outbox.push(told(id, &holder));
            }
        }
        let before = self.slice.take().unwrap_or_default().virtual_addresses;
        let after = &slice.virtual_addresses;
        let moved = after.iter().filter(|(id, holder)| before.get(id) != Some(holder)).map(|(id, _)| *id);
        self.virtual_addresses.moved.extend(moved);
        self.slice = Some(slice);
        self.slice_changed(now);
    }

    /// A delta is about to be applied: what it says of an address is newer than what was heard.
    pub(super) fn note_moves(&mut self, delta: &Delta) {
        let Some(slice) = &self.slice else { return };
        for object in &delta.upserts {
            if let Object::VirtualAddress(id, holder) = object {
                self.virtual_addresses.told.remove(id);
                if slice.virtual_addresses.get(id) != Some(holder) {
                    self.virtual_addresses.moved.insert(*id);
                }
            }
        }
        for object in &delta.removals {
            if let ObjectId::VirtualAddress(id) = object {
                self.virtual_addresses.told.remove(id);
            }
        }
    }

    /// The tables say where they are.
    pub(super) fn moves_programmed(&mut self) {
        let moved = std::mem::take(&mut self.virtual_addresses.moved);
        self.virtual_addresses.due.extend(moved);
    }

    /// Tells those who have to know: the VMs of the network here and, of an address that came here, the other hosts.
    pub(super) fn tell_of_moves(&mut self) -> Vec<Outgoing> {
        let due = std::mem::take(&mut self.virtual_addresses.due);
        due.into_iter().flat_map(|id| self.announcements(id)).collect()
    }

    fn announcements(&self, id: VirtualAddressId) -> Vec<Outgoing> {
        let Some(slice) = &self.slice else { return Vec::new() };
        let holder = slice.virtual_addresses.get(&id);
        let holder = holder.and_then(|holder| Some((holder, slice.ports.get(&holder.port)?)));
        let (Some((holder, port)), Some(own)) = (holder, &self.welcome) else { return Vec::new() };
        let frames = moved(id.address, packet::MacAddr(holder.mac.0));
        let neighbors = self.local_ports().filter(|(other, _)| {
            *other != holder.port && slice.ports.get(other).is_some_and(|other| other.network == id.network)
        });
        let to = |ifindex| frames.iter().map(move |frame| Outgoing { ifindex, frame: frame.clone() });
        let mut outgoing: Vec<_> = neighbors.flat_map(|(_, link)| to(link.index)).collect();
        // Of IPv6 the other hosts hear from the controller alone: the programs take no discovery from tunnels.
        let to_hosts = port.host == Some(own.host) && id.address.is_ipv4();
        if let Some(frame) = frames.first().filter(|_| to_hosts) {
            outgoing.extend(self.to_other_hosts(id.network, frame));
        }
        outgoing
    }

    /// A frame of a network for every other host that has a VM in its VPC.
    fn to_other_hosts(&self, network: NetworkId, frame: &[u8]) -> Vec<Outgoing> {
        let (Some(slice), Some(plan), Some(own)) = (&self.slice, &self.programmed, &self.welcome) else {
            return Vec::new();
        };
        let Some(vni) = slice.networks.get(&network).map(|network| network.vni.get()) else {
            return Vec::new();
        };
        let reached = slice.networks_routed_with(network);
        let hosts =
            slice.ports.values().filter(|port| reached.contains(&port.network)).filter_map(|port| port.host);
        let hosts: BTreeSet<HostId> = hosts.filter(|host| *host != own.host).collect();
        let config = &plan.compiled.tables.config;
        let through = |host: &HostId| {
            let vtep = slice.hosts.get(host)?.vtep.into();
            let frame = encapsulate(config, (vni, vtep), frame.to_vec())?;
            Some(Outgoing { ifindex: Outgoing::UNDERLAY, frame })
        };
        hosts.iter().filter_map(through).collect()
    }
}

/// The frames that say who has an address now. Of ARP both forms: some VMs believe only one of them.
fn moved(address: IpAddr, mac: packet::MacAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => {
            let sender = ArpSender { mac, ip: address.octets(), vlan: None };
            vec![arp_announcement(&sender).to_vec(), arp_announcement_reply(&sender).to_vec()]
        }
        IpAddr::V6(address) => vec![Speaker { mac, vlan: 0 }.move_of(address)],
    }
}

fn told(id: VirtualAddressId, holder: &VirtualAddress) -> Message {
    Message::AddressAnnounced(proto::AddressAnnounced {
        port_id: holder.port.to_string(),
        address: id.address.to_string(),
        mac: holder.mac.to_string(),
    })
}

#[cfg(test)]
mod tests;
