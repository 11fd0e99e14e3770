//! `config` and `vteps`: this host and the others.

use crate::facts::{LocalFacts, TunnelProtocol};
use crate::output::{Builder, VTEPS, by, mac};
use model::slice::{ObjectId, Slice};
use pipeline::tables::{Config, Vtep, VtepKey};

pub(crate) fn compile(slice: &Slice, facts: &LocalFacts, builder: &mut Builder) {
    builder.config(config(facts), by(ObjectId::Host(facts.host), "this host"));
    for (id, host) in slice.hosts.iter().filter(|(id, _)| **id != facts.host) {
        let object = ObjectId::Host(*id);
        if host.vtep == facts.vtep {
            builder.problem(object, format!("has this host's tunnel address {}", host.vtep));
            continue;
        }
        let key = VtepKey { address: host.vtep.into() };
        let flags = if facts.underlay_net.contains(&host.vtep) { Vtep::FLAG_ON_LINK } else { 0 };
        let value = Vtep { dvr_mac: mac(host.dvr_mac), flags };
        builder.put(&VTEPS, key, value, by(object, "tunnel packets of the host are accepted"));
    }
}

fn config(facts: &LocalFacts) -> Config {
    let tunnel = facts.tunnel;
    let flags = [
        (tunnel.protocol == TunnelProtocol::Geneve, Config::FLAG_GENEVE),
        (tunnel.lone_path, Config::FLAG_LONE_PATH),
        (tunnel.geneve_as_vxlan, Config::FLAG_GENEVE_AS_VXLAN),
        (tunnel.liveness, Config::FLAG_TUNNEL_LIVENESS),
    ];
    Config {
        epoch: 0,
        underlay_ifindex: facts.underlay_ifindex,
        flags: flags.iter().filter(|(set, _)| *set).fold(0, |sum, (_, flag)| sum | flag),
        sessions_per_port_max: facts.sessions_per_vm_max,
        tunnel_port: tunnel.port,
        dvr_mac: mac(facts.dvr_mac),
        vtep: facts.vtep.into(),
    }
}
