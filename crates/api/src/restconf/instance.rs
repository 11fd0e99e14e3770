//! One NAT as `ietf-nat` (RFC 8512) describes it: what is configured, and what the controller counts.

use ipnet::Ipv4Net;
use model::moment;
use model::question::MappingRow;
use model::slice::Filtering;
use model::{HostId, NatTimeouts, RouterId};
use serde_json::{Map, Value, json};
use std::net::{Ipv4Addr, SocketAddrV4};

/// IP protocols whose ports are translated.
const PROTOCOLS: [(u8, &str); 3] = [(1, "ICMP"), (6, "TCP"), (17, "UDP")];
/// An index has 16 bits of port, two of protocol, and the rest for the address; those without address are static.
const PROTOCOL_SHIFT: u32 = 16;
const ADDRESS_SHIFT: u32 = 18;
/// External ports are never below.
const PORT_MIN: u16 = 1024;

/// A router with an external gateway.
#[derive(Clone, Debug)]
pub struct NatInstance {
    /// Its VNI: not 0, and nobody else's.
    pub id: u32,
    pub router: RouterId,
    pub enabled: bool,
    /// When its gateway was made, seconds since 1970.
    pub since: i64,
    /// None: only floating IPs are translated.
    pub snat: Option<Snat>,
    /// Towards these nothing is translated.
    pub untranslated: Vec<Ipv4Net>,
    /// What its VMs have addresses of.
    pub subnets: Vec<Ipv4Net>,
    /// Floating IPs and forwarded ports.
    pub static_mappings: Vec<StaticMapping>,
    /// Where its mappings are.
    pub hosts: Vec<HostId>,
}

/// How VMs without a floating IP get out.
#[derive(Clone, Debug)]
pub struct Snat {
    pub pools: Vec<Pool>,
    pub filtering: Filtering,
    /// 0: no limit.
    pub ports_per_vm_max: u32,
    /// Per VM, 0: no limit.
    pub mappings_per_second_max: u32,
    pub block_size: u16,
    pub block_hold_s: u64,
    pub timeouts: NatTimeouts,
}

/// A SNAT address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub address: Ipv4Addr,
    /// In blocks that hosts have for this router.
    pub ports_allocated: u32,
    /// In blocks that nobody has.
    pub ports_free: u32,
}

/// Configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaticMapping {
    /// All of an address.
    Address { internal: Ipv4Addr, external: Ipv4Addr },
    /// A port of it.
    Port { protocol: u8, internal: SocketAddrV4, external: SocketAddrV4 },
}

impl NatInstance {
    /// Everything but mappings and statistics.
    pub(super) fn head(&self) -> Map<String, Value> {
        let mut head = Map::from_iter([
            ("id".to_owned(), json!(self.id)),
            ("name".to_owned(), json!(self.router)),
            ("enable".to_owned(), json!(self.enabled)),
            ("capabilities".to_owned(), capabilities()),
            ("type".to_owned(), json!(if self.snat.is_some() { "napt44" } else { "basic-nat44" })),
            ("per-interface-binding".to_owned(), json!("disabled")),
        ]);
        if !self.untranslated.is_empty() {
            let entries = numbered(&self.untranslated, |id, prefix| json!({"id": id, "prefix": prefix}));
            head.insert("nat-pass-through".to_owned(), entries);
        }
        if let Some(snat) = &self.snat {
            head.insert("policy".to_owned(), json!([self.policy(snat)]));
            if snat.mappings_per_second_max != 0 {
                let limit = json!({"limit-per-subscriber": snat.mappings_per_second_max});
                head.insert("connection-limits".to_owned(), limit);
            }
        }
        head
    }

    fn policy(&self, snat: &Snat) -> Value {
        let pools = numbered(
            &snat.pools,
            |id, pool| json!({"pool-id": id, "external-ip-pool": Ipv4Net::from(pool.address)}),
        );
        let subnets = numbered(&self.subnets, |id, subnet| json!({"match-id": id, "subnet": subnet}));
        let mut policy = json!({
            "id": 1,
            "external-ip-address-pool": pools,
            "port-set-restrict": {"start-port-number": PORT_MIN, "end-port-number": u16::MAX},
            "transport-protocols": protocols(),
            "subscriber-match": subnets,
            "address-allocation-type": "paired",
            "port-allocation-type": "port-range-allocation",
            "mapping-type": "eim",
            "filtering-type": match snat.filtering {
                Filtering::EndpointIndependent => "eif",
                Filtering::AddressDependent => "adf",
                Filtering::AddressAndPortDependent => "edf",
            },
            "fragment-behavior": "out-of-order",
            "port-set": {"port-set-size": snat.block_size, "port-set-timeout": snat.block_hold_s},
            "timers": timers(&snat.timeouts),
            "all-algs-enable": false,
        });
        // The model's limit has 16 bits: what is above says as much as no limit.
        if let (Ok(limit @ 1..), Value::Object(policy)) = (u16::try_from(snat.ports_per_vm_max), &mut policy)
        {
            policy.insert("port-quota".to_owned(), json!([{"quota-type": 0, "port-limit": limit}]));
        }
        policy
    }

    /// Entries of the mapping table that are configured.
    pub(super) fn static_entries(&self) -> impl Iterator<Item = Value> {
        (1_u32..).zip(&self.static_mappings).map(|(index, mapping)| match mapping {
            StaticMapping::Address { internal, external } => json!({
                "index": index,
                "type": "static",
                "internal-src-address": Ipv4Net::from(*internal),
                "external-src-address": Ipv4Net::from(*external),
            }),
            StaticMapping::Port { protocol, internal, external } => {
                entry(index, "static", *protocol, *internal, *external)
            }
        })
    }

    /// The entry of a mapping that a packet made. None: its address is no longer the router's, or its protocol unknown.
    pub(super) fn entry(&self, row: &MappingRow) -> Option<Value> {
        let pools = self.snat.as_ref()?.pools.as_slice();
        let place = pools.iter().position(|pool| pool.address == *row.external.ip())?;
        let protocol = PROTOCOLS.iter().position(|(number, _)| *number == row.protocol)?;
        let place = u32::try_from(place + 1).ok().filter(|place| place.leading_zeros() >= ADDRESS_SHIFT)?;
        let protocol = u32::try_from(protocol).ok()?;
        let index = place << ADDRESS_SHIFT | protocol << PROTOCOL_SHIFT | u32::from(row.external.port());
        Some(entry(index, "dynamic-implicit", row.protocol, row.internal, row.external))
    }

    /// What the controller counts by itself; mappings are added.
    pub(super) fn statistics(&self) -> Map<String, Value> {
        let since = moment::text_s(self.since);
        let mut statistics = Map::from_iter([("discontinuity-time".to_owned(), json!(since))]);
        let Some(snat) = &self.snat else { return statistics };
        let used = |pool: &Pool| u32::from(pool.ports_allocated != 0);
        let sum = |of: fn(&Pool) -> u32| snat.pools.iter().map(of).fold(0, u32::saturating_add);
        let each = numbered(&snat.pools, |id, pool| {
            json!({
                "pool-id": id,
                "discontinuity-time": since,
                "pool-stats": {"addresses-allocated": used(pool), "addresses-free": 1 - used(pool)},
                "port-stats": {"ports-allocated": pool.ports_allocated, "ports-free": pool.ports_free},
            })
        });
        let allocated: u32 = snat.pools.iter().map(used).sum();
        let pools = json!({
            "addresses-allocated": allocated,
            "addresses-free": snat.pools.len().saturating_sub(allocated as usize),
            "ports-stats": {
                "ports-allocated": sum(|pool| pool.ports_allocated),
                "ports-free": sum(|pool| pool.ports_free),
            },
            "per-pool-stats": each,
        });
        statistics.insert("pools-stats".to_owned(), pools);
        statistics
    }
}

fn entry(index: u32, kind: &str, protocol: u8, internal: SocketAddrV4, external: SocketAddrV4) -> Value {
    json!({
        "index": index,
        "type": kind,
        "transport-protocol": protocol,
        "internal-src-address": Ipv4Net::from(*internal.ip()),
        "internal-src-port": {"start-port-number": internal.port()},
        "external-src-address": Ipv4Net::from(*external.ip()),
        "external-src-port": {"start-port-number": external.port()},
    })
}

/// A list whose keys count from 1.
fn numbered<T>(all: &[T], entry: impl Fn(u32, &T) -> Value) -> Value {
    (1..).zip(all).map(|(id, one)| entry(id, one)).collect()
}

fn protocols() -> Value {
    PROTOCOLS.iter().map(|(id, name)| json!({"protocol-id": id, "protocol-name": name})).collect()
}

/// Of every NAT here.
fn capabilities() -> Value {
    json!({
        "nat-flavor": ["basic-nat44", "napt44"],
        "per-interface-binding": ["unsupported"],
        "transport-protocols": protocols(),
        "restricted-port-support": true,
        "static-mapping-support": true,
        "port-randomization-support": true,
        "port-range-allocation-support": true,
        // The model's name has one p.
        "port-preservation-suport": false,
        "port-parity-preservation-support": false,
        "address-roundrobin-support": false,
        "paired-address-pooling-support": true,
        "endpoint-independent-mapping-support": true,
        "address-dependent-mapping-support": false,
        "address-and-port-dependent-mapping-support": false,
        "endpoint-independent-filtering-support": true,
        "address-dependent-filtering": true,
        "address-and-port-dependent-filtering": true,
        "fragment-behavior": "out-of-order",
    })
}

fn timers(timeouts: &NatTimeouts) -> Value {
    json!({
        "udp-timeout": timeouts.udp_s,
        "tcp-idle-timeout": timeouts.tcp_established_s,
        "tcp-trans-open-timeout": timeouts.tcp_transitory_s,
        "tcp-trans-close-timeout": timeouts.tcp_closed_s,
        "icmp-timeout": timeouts.icmp_s,
        "hold-down-timeout": timeouts.port_rest_s,
    })
}
