//! `services`: under which address each VM of this host is known to the host's services, and back.
//!
//! VMs of different VPCs may have equal addresses. On the services' link, which leads into a namespace of its own,
//! every address of every port has one that follows from the port's interface and the address's place among the port's,
//! so that nothing has to be remembered.

use crate::facts::ServiceFacts;
use crate::output::{Builder, SERVICES, by, mac};
use model::slice::{ObjectId, Port};
use pipeline::tables::{Service, ServiceKey};
use std::net::Ipv4Addr;

/// Where the guests' addresses begin: 64.0.0.0/3. They are never on a wire.
const FIRST: u32 = 0x4000_0000;
const ADDRESS_BITS: u32 = 4;
const IFINDEX_BITS: u32 = 25;

pub(crate) fn compile(
    service: ServiceFacts,
    ifindex: u32,
    (object, port): (ObjectId, &Port),
    builder: &mut Builder,
) {
    if ifindex >= 1 << IFINDEX_BITS {
        builder.problem(object, format!("its link's index {ifindex} is too large for the host's services"));
        return;
    }
    // The metadata service has an IPv4 address alone.
    let addresses = port.addresses.iter().filter(|address| address.is_ipv4());
    for (place, address) in (0..1 << ADDRESS_BITS).zip(addresses) {
        let own = ServiceKey { ifindex, address: (*address).into() };
        let known_as = Ipv4Addr::from(FIRST | ifindex << ADDRESS_BITS | place);
        let there = ServiceKey { ifindex: service.ifindex, address: known_as.into() };
        let side =
            |key: ServiceKey, mac| Service { ifindex: key.ifindex, mac, zero: 0, address: key.address };
        builder.put(&SERVICES, own, side(there, mac(service.mac)), by(object, "the host serves the port"));
        builder.put(&SERVICES, there, side(own, mac(port.mac)), by(object, "an answer's way to the port"));
    }
}
