//! `external_addresses`, `floating_by_fixed`, `snat`, `own_blocks` and `block_owners`.

use crate::facts::LocalFacts;
use crate::output::{BLOCK_OWNERS, Builder, EXTERNAL_ADDRESSES, FLOATING_BY_FIXED, OWN_BLOCKS, SNAT, by};
use crate::ownership::{Subject, answers};
use model::slice::{BlockId, Filtering, FloatingIp, ObjectId, Router, Slice};
use model::{FloatingIpId, HostId, NetworkId, RouterId};
use pipeline::Address;
use pipeline::bounds::BLOCKS_MAX;
use pipeline::tables::{
    BlockKey, BlockOwner, BlockOwnerKey, ExternalAddress, ExternalAddressKey, FixedKey, Floating, PortBlock,
    RouterKey, Snat,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

pub(crate) fn compile(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    for (id, floating_ip) in &slice.floating_ips {
        floating(slice, facts, *id, floating_ip, builder);
    }
    let own = blocks(slice, facts, builder);
    for (id, router) in &slice.routers {
        let layout = own.get(id).map_or(Layout::default(), |blocks| own_blocks(router, blocks, builder));
        snat(slice, facts, *id, router, layout, builder);
    }
}

fn floating(slice: &Slice, facts: &LocalFacts, id: FloatingIpId, fip: &FloatingIp, builder: &mut Builder) {
    let object = ObjectId::FloatingIp(id);
    let external = slice.external_networks.get(&fip.external_network);
    let router = slice.routers.get(&fip.router);
    let (Some(external), Some(router)) = (external, router) else {
        builder.problem(object, "its external network or router is not known here");
        return;
    };
    let Some(network_vni) = tenant_vni(slice, facts, (fip.network, fip.host), object, builder) else {
        return;
    };
    if !router.admin_up {
        return;
    }
    let Some(host) = fip.host else { return };
    let Some(vtep) = vtep_of(slice, facts, host) else {
        builder.problem(object, format!("its host {host} is not known here"));
        return;
    };
    let answer =
        answers(slice, facts, Subject { external, address: fip.address.into(), floating_host: Some(host) });
    let external_vni = external.vni.get();
    let entry = ExternalAddress {
        kind: ExternalAddress::FLOATING,
        flags: if answer { ExternalAddress::FLAG_ANSWER } else { 0 },
        router_vni: router.vni.get(),
        network_vni,
        fixed: fip.fixed_address.into(),
        vtep,
    };
    let key = ExternalAddressKey { external_vni, address: fip.address.into() };
    builder.put(&EXTERNAL_ADDRESSES, key, entry, by(object, "the floating IP"));
    let key = FixedKey { router_vni: router.vni.get(), address: fip.fixed_address.into() };
    let value = Floating { external_vni, address: fip.address.into() };
    builder.put(&FLOATING_BY_FIXED, key, value, by(object, "fixed address of the floating IP"));
}

fn snat(
    slice: &Slice,
    facts: &LocalFacts,
    id: RouterId,
    router: &Router,
    layout: Layout,
    builder: &mut Builder,
) {
    let object = ObjectId::Router(id);
    // A missing external network has been reported with the router's routes.
    let Some(gateway) = router.gateway.as_ref().filter(|_| router.admin_up) else { return };
    let Some(external) = slice.external_networks.get(&gateway.network) else { return };
    for address in gateway.all_addresses() {
        let answer = answers(slice, facts, Subject { external, address, floating_host: None });
        // Nothing of IPv6 is translated.
        let (kind, why) = match address {
            IpAddr::V4(_) => (ExternalAddress::SNAT, "SNAT address of the router"),
            IpAddr::V6(_) => (ExternalAddress::ROUTER, "address of the router outside"),
        };
        let entry = ExternalAddress {
            kind,
            flags: if answer { ExternalAddress::FLAG_ANSWER } else { 0 },
            router_vni: router.vni.get(),
            ..ExternalAddress::default()
        };
        let key = ExternalAddressKey { external_vni: external.vni.get(), address: address.into() };
        // Several routers may share the address: the first names it.
        builder.put_default(&EXTERNAL_ADDRESSES, key, entry, by(object, why));
    }
    if gateway.enable_snat && !gateway.addresses.is_empty() {
        let filtering = match gateway.filtering {
            Filtering::AddressAndPortDependent => 0,
            Filtering::AddressDependent => Snat::FLAG_ADDRESS_FILTERING,
            Filtering::EndpointIndependent => Snat::FLAG_INDEPENDENT_FILTERING,
        };
        let port_control = if gateway.port_control { Snat::FLAG_PORT_CONTROL } else { 0 };
        let value = Snat {
            external_vni: external.vni.get(),
            block_count: layout.blocks,
            address_count: layout.addresses,
            ports_max: gateway.ports_per_vm_max,
            mappings_per_second: gateway.mappings_per_second_max,
            flags: filtering | port_control,
        };
        let key = RouterKey { router_vni: router.vni.get() };
        builder.put(&SNAT, key, value, by(object, "SNAT of the router"));
    }
}

/// The tunnel address of a host as tables have it: zero for this host.
pub(crate) fn vtep_of(slice: &Slice, facts: &LocalFacts, host: HostId) -> Option<Address> {
    if host == facts.host {
        return Some(Address::ZERO);
    }
    slice.hosts.get(&host).map(|remote| remote.vtep.into())
}

/// The VNI of the tenant network that an external address leads to; none: a problem, which is reported. A gateway only
/// steers: it may know nothing of the network, needs not, and has 0.
pub(crate) fn tenant_vni(
    slice: &Slice,
    facts: &LocalFacts,
    (network, host): (NetworkId, Option<HostId>),
    object: ObjectId,
    builder: &mut Builder,
) -> Option<u32> {
    match slice.networks.get(&network) {
        Some(known) => Some(known.vni.get()),
        None if host == Some(facts.host) => {
            builder.problem(object, format!("its network {network} is not known here"));
            None
        }
        None => Some(0),
    }
}

/// Where the block that holds this port may begin instead of at its place: below are the system ports.
const PORT_FIRST: u16 = 1024;

/// Own blocks of a router, by address, with their numbers of ports.
type OwnBlocks = BTreeMap<Ipv4Addr, Vec<(BlockId, u16)>>;

/// Owners of all blocks. Returns by router this host's own in which new mappings may be made.
fn blocks(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) -> BTreeMap<RouterId, OwnBlocks> {
    let mut own: BTreeMap<RouterId, OwnBlocks> = BTreeMap::new();
    for (id, block) in &slice.blocks {
        let object = ObjectId::Block(*id);
        let external = slice.external_networks.get(&id.external_network);
        let (Some(external), Some(router)) = (external, slice.routers.get(&block.router)) else {
            builder.problem(object, "its external network or router is not known here");
            continue;
        };
        let size = external.block_size;
        let Some(vtep) = vtep_of(slice, facts, block.host) else {
            builder.problem(object, format!("its host {} is not known here", block.host));
            continue;
        };
        let late = id.first_port == PORT_FIRST && size > PORT_FIRST;
        if !size.is_power_of_two() || !(late || id.first_port.is_multiple_of(size)) {
            builder.problem(object, format!("is not aligned to the block size {size}"));
            continue;
        }
        let router_vni = router.vni.get();
        let key = BlockOwnerKey {
            external_vni: external.vni.get(),
            block: u32::from(id.first_port / size),
            address: id.address.into(),
        };
        builder.put(&BLOCK_OWNERS, key, BlockOwner { router_vni, vtep }, by(object, "owner of the block"));
        if block.host == facts.host && !block.retiring {
            own.entry(block.router)
                .or_default()
                .entry(id.address)
                .or_default()
                .push((*id, id.last_port(size) - id.first_port + 1));
        }
    }
    own
}

/// How a router's blocks lie in `own_blocks`.
#[derive(Clone, Copy, Default)]
struct Layout {
    blocks: u32,
    addresses: u32,
}

/// Fills `own_blocks` row by row, one block of each address in a row, so that a VM can keep to one address
/// and still draw from all of its blocks. Addresses with fewer blocks repeat them.
fn own_blocks(router: &Router, blocks: &OwnBlocks, builder: &mut Builder) -> Layout {
    let addresses = blocks.len() as u32;
    let rows_wanted = blocks.values().map(Vec::len).max().unwrap_or(0) as u32;
    let rows = rows_wanted.min(BLOCKS_MAX / addresses.max(1));
    if rows < rows_wanted {
        let dropped = blocks.values().flat_map(|of_address| of_address.iter().skip(rows as usize));
        for (id, _) in dropped {
            let text = format!("more than {BLOCKS_MAX} blocks of a router on this host");
            builder.problem(ObjectId::Block(*id), text);
        }
    }
    for row in 0..rows {
        for (column, of_address) in blocks.values().enumerate() {
            let (id, size) = of_address[row as usize % of_address.len()];
            let value = PortBlock { address: id.address.into(), first: id.first_port, size };
            let key = BlockKey { router_vni: router.vni.get(), slot: row * addresses + column as u32 };
            builder.put(&OWN_BLOCKS, key, value, by(ObjectId::Block(id), "block of this host"));
        }
    }
    Layout { blocks: rows * addresses, addresses }
}
