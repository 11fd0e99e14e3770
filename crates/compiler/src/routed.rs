//! `external_addresses` of VMs that the outside sees as they are. Towards what is said by the routers' routes.

use crate::facts::LocalFacts;
use crate::nat::{tenant_vni, vtep_of};
use crate::output::{Builder, EXTERNAL_ADDRESSES, by};
use model::PortId;
use model::slice::{ObjectId, RoutedAddress, RoutedPort, Slice};
use pipeline::tables::{ExternalAddress, ExternalAddressKey};

pub(crate) fn compile(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    for (id, port) in &slice.routed_ports {
        for address in &port.addresses {
            routed(slice, facts, (*id, port, address), builder);
        }
    }
}

fn routed(
    slice: &Slice,
    facts: &LocalFacts,
    (id, port, routed): (PortId, &RoutedPort, &RoutedAddress),
    builder: &mut Builder,
) {
    let object = ObjectId::RoutedPort(id);
    let external = slice.external_networks.get(&routed.external_network);
    let (Some(external), Some(router)) = (external, slice.routers.get(&routed.router)) else {
        builder.problem(object, "its external network or router is not known here");
        return;
    };
    let Some(host) = port.host.filter(|_| router.admin_up) else { return };
    let Some(vtep) = vtep_of(slice, facts, host) else {
        builder.problem(object, format!("its host {host} is not known here"));
        return;
    };
    let place = (port.network, Some(host));
    let Some(network_vni) = tenant_vni(slice, facts, place, object, builder) else { return };
    let entry = ExternalAddress {
        kind: ExternalAddress::ROUTED,
        flags: 0,
        router_vni: router.vni.get(),
        network_vni,
        fixed: routed.address.into(),
        vtep,
    };
    let key = ExternalAddressKey { external_vni: external.vni.get(), address: routed.address.into() };
    builder.put(&EXTERNAL_ADDRESSES, key, entry, by(object, "fixed address that is not translated"));
}
