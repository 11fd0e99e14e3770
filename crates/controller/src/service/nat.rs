//! The NAT as network management knows it: one instance per router with an external gateway.

use super::Service;
use super::admin::{PATIENCE, Parts};
use crate::slices::gateway_addresses;
use api::{Nat, NatInstance, Pool, Snat, StaticMapping};
use ipnet::IpNet;
use model::question::{MappingFilter, Question};
use model::resource::{FloatingIp, GatewayInfo, Port, Router};
use model::slice::BlockId;
use model::{HostId, NatTimeouts, RouterId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use store::Snapshot;
use store::allocate::block_starts;

/// What of the NAT is decided for the whole cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatSettings {
    pub timeouts: NatTimeouts,
    /// How long a host has port blocks too many before it gives them up.
    pub block_hold: Duration,
}

impl Nat for Service {
    fn revision(&self) -> u64 {
        self.snapshot().revision
    }

    fn nats(&self) -> Vec<(u32, RouterId)> {
        let snapshot = self.snapshot();
        let routers = snapshot.routers.values().filter(|router| router.gateway.is_some());
        let mut ids: Vec<_> = routers.map(|router| (router.vni.get(), router.id)).collect();
        ids.sort_unstable();
        ids
    }

    fn nat(&self, router: RouterId) -> Option<NatInstance> {
        let snapshot = self.snapshot();
        instance(&snapshot, snapshot.routers.get(&router)?, self.settings.nat)
    }

    fn mappings(&self, nat: &NatInstance) -> Parts {
        let question = Question::Mappings(MappingFilter { router: Some(nat.router) });
        Parts(self.hub.ask(nat.hosts.iter().copied(), &question, PATIENCE))
    }
}

fn instance(snapshot: &Snapshot, router: &Router, settings: NatSettings) -> Option<NatInstance> {
    let gateway = router.gateway.as_ref()?;
    let hosts: BTreeSet<HostId> = snapshot.blocks_of_router(router.id).map(|block| block.host).collect();
    let legs = super::router::interfaces(snapshot, router.id);
    let subnets: BTreeSet<_> = legs.iter().flat_map(|leg| &leg.fixed_ips).map(|ip| ip.subnet).collect();
    let subnets = subnets.iter().filter_map(|id| match snapshot.subnets.get(id)?.cidr {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    });
    Some(NatInstance {
        id: router.vni.get(),
        router: router.id,
        enabled: router.admin_state_up,
        since: snapshot.get::<Port>(gateway.port).map_or(0, |port| port.standard.created_at),
        snat: snat(snapshot, router, gateway, settings),
        untranslated: gateway.untranslated_destinations.clone(),
        subnets: subnets.collect(),
        static_mappings: static_mappings(snapshot, router),
        hosts: hosts.into_iter().collect(),
    })
}

/// None: it is switched off, or without an address.
fn snat(snapshot: &Snapshot, router: &Router, gateway: &GatewayInfo, settings: NatSettings) -> Option<Snat> {
    let block_size = snapshot.networks.get(&gateway.network)?.provider.as_ref()?.block_size;
    let addresses = gateway_addresses(snapshot, gateway);
    if !gateway.enable_snat || addresses.is_empty() {
        return None;
    }
    let pool = |address: &Ipv4Addr| {
        let blocks = snapshot.blocks_of_address(gateway.network, *address);
        let blocks: BTreeMap<u16, bool> =
            blocks.map(|block| (block.first_port, block.router == router.id)).collect();
        let ports = |first_port: u16| {
            let block = BlockId { external_network: gateway.network, address: *address, first_port };
            u32::from(block.last_port(block_size) - first_port) + 1
        };
        let own = blocks.iter().filter(|(_, own)| **own).map(|(first_port, _)| *first_port);
        let free = block_starts(block_size).filter(|first_port| !blocks.contains_key(first_port));
        Pool { address: *address, ports_allocated: own.map(ports).sum(), ports_free: free.map(ports).sum() }
    };
    Some(Snat {
        pools: addresses.iter().map(pool).collect(),
        filtering: gateway.filtering,
        ports_per_vm_max: gateway.ports_per_vm_max,
        mappings_per_second_max: gateway.mappings_per_second_max,
        block_size,
        block_hold_s: settings.block_hold.as_secs(),
        timeouts: settings.timeouts,
    })
}

fn static_mappings(snapshot: &Snapshot, router: &Router) -> Vec<StaticMapping> {
    let mut all = Vec::new();
    for floating_ip in snapshot.floating_ips_of_router(router.id) {
        let FloatingIp { address, association, forwardings, .. } = &**floating_ip;
        if let Some(association) = association {
            all.push(StaticMapping::Address { internal: association.fixed_address, external: *address });
        }
        all.extend(forwardings.iter().map(|own| StaticMapping::Port {
            protocol: own.protocol.number(),
            internal: SocketAddrV4::new(own.internal_address, own.internal_port),
            external: SocketAddrV4::new(*address, own.external_port),
        }));
    }
    all
}
