//! `forwardings`: ports of floating IPs that stand for internal endpoints, and the addresses themselves, which
//! gateways answer for as they do for SNAT addresses.

use crate::facts::LocalFacts;
use crate::nat::{tenant_vni, vtep_of};
use crate::output::{Builder, EXTERNAL_ADDRESSES, FORWARDINGS, by};
use crate::ownership::{Subject, answers};
use model::PortForwardingId;
use model::slice::{ObjectId, PortForwarding, Slice};
use pipeline::nat::BindingKey;
use pipeline::tables::{ExternalAddress, ExternalAddressKey, Forwarding};

pub(crate) fn compile(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    for (id, forwarding) in &slice.port_forwardings {
        forwarded(slice, facts, (*id, forwarding), builder);
    }
}

fn forwarded(
    slice: &Slice,
    facts: &LocalFacts,
    (id, forwarding): (PortForwardingId, &PortForwarding),
    builder: &mut Builder,
) {
    let object = ObjectId::PortForwarding(id);
    let external = slice.external_networks.get(&forwarding.external_network);
    let router = slice.routers.get(&forwarding.router);
    let (Some(external), Some(router)) = (external, router) else {
        builder.problem(object, "its external network or router is not known here");
        return;
    };
    if !router.admin_up {
        return;
    }
    let (external_vni, router_vni) = (external.vni.get(), router.vni.get());
    let address = forwarding.address.into();
    let answer =
        answers(slice, facts, Subject { external, address: forwarding.address.into(), floating_host: None });
    let entry = ExternalAddress {
        kind: ExternalAddress::FORWARDED,
        flags: if answer { ExternalAddress::FLAG_ANSWER } else { 0 },
        router_vni,
        ..ExternalAddress::default()
    };
    let key = ExternalAddressKey { external_vni, address };
    // All forwardings of a floating IP go through one router: the first names the address.
    builder.put_default(&EXTERNAL_ADDRESSES, key, entry, by(object, "floating IP of the port forwarding"));
    let Some(host) = forwarding.host else { return };
    let Some(vtep) = vtep_of(slice, facts, host) else {
        builder.problem(object, format!("its host {host} is not known here"));
        return;
    };
    let place = (forwarding.network, Some(host));
    let Some(network_vni) = tenant_vni(slice, facts, place, object, builder) else { return };
    let key = BindingKey {
        external_vni,
        address,
        port: forwarding.external_port,
        protocol: forwarding.protocol,
        zero: 0,
    };
    let value = Forwarding {
        router_vni,
        network_vni,
        address: forwarding.fixed_address.into(),
        vtep,
        port: forwarding.internal_port,
        zero: 0,
    };
    builder.put(&FORWARDINGS, key, value, by(object, "the port forwarding"));
}
