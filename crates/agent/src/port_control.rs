//! Port control (PCP, RFC 6887): VMs whose router lets them ask for mappings that anyone outside may send to. The
//! exchanges themselves are the crate `pcp`'s, the mappings the data path's; here is who may have what.
//!
//! What was asked for is in the kernel and outlives the agent. How long nothing of a VM's was lost (the epoch) begins
//! anew with the agent: clients then ask again for what they have, and are given it.

use dataplane::{Dataplane, NotOpened, OpenPort, OpenRequest};
use packet::{MacAddr, ethernet};
use pcp::{Code, Internal, Nat, Nonce, Opened, Refused, Server, Wanted};
use pipeline::Address;
use pipeline::nat::{BindingKey, MappingKey, Opening};
use pipeline::table_set::TableSet;
use pipeline::tables::{FixedKey, NeighborKey, PortKey, RouterKey, Snat, Station, StationKey};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

const SECOND_NS: u64 = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct PortControl {
    lifetime_max_s: u32,
    /// Since when nothing was lost of what the VM behind a link asked for.
    since: BTreeMap<u32, Instant>,
    /// External endpoints that were closed, for the next sweep.
    closed: Vec<BindingKey>,
    answered: BTreeMap<Code, u64>,
    unanswered: u64,
}

/// What comes of a VM's frame.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) frame: Option<Vec<u8>>,
    /// A router whose ports are used up here.
    pub(crate) blocks_low: Option<u32>,
}

/// The moment, and bits that nobody can guess.
pub(crate) struct Chance<'a> {
    pub(crate) now: Instant,
    /// Of the clock that mappings are stamped with.
    pub(crate) now_ns: u64,
    pub(crate) random: &'a mut dyn FnMut() -> u32,
}

impl PortControl {
    pub(crate) fn new(lifetime_max_s: u32) -> Self {
        Self {
            lifetime_max_s,
            since: BTreeMap::new(),
            closed: Vec::new(),
            answered: BTreeMap::new(),
            unanswered: 0,
        }
    }

    /// Answers the frame that the VM behind a link sent to its router.
    pub(crate) fn answer(
        &mut self,
        chance: Chance<'_>,
        dataplane: &mut Dataplane,
        tables: &TableSet,
        (ifindex, frame): (u32, &[u8]),
    ) -> Answered {
        let Some(vm) = subject(tables, ifindex, frame) else {
            self.unanswered += 1;
            return Answered::default();
        };
        let since = *self.since.entry(ifindex).or_insert(chance.now);
        // A u32 of seconds is 136 years.
        let epoch_s = chance.now.saturating_duration_since(since).as_secs() as u32;
        let server = Server { lifetime_max_s: self.lifetime_max_s, epoch_s };
        let Chance { now_ns, random, .. } = chance;
        let closed = &mut self.closed;
        let mut share = Subscriber { vm, dataplane, tables, now_ns, random, closed, blocks_low: false };
        share.forget_former();
        let reply = pcp::answer(&server, &mut share, frame);
        let blocks_low = share.blocks_low.then_some(vm.owner.router_vni);
        match &reply {
            Some(reply) => *self.answered.entry(reply.code).or_default() += 1,
            None => self.unanswered += 1,
        }
        Answered { frame: reply.map(|reply| reply.frame), blocks_low }
    }

    /// Ends what is over, and what its VM may no longer have.
    pub(crate) fn expire(
        &mut self,
        dataplane: &mut Dataplane,
        tables: &TableSet,
        now_ns: u64,
    ) -> Result<(), dataplane::Error> {
        self.since.retain(|ifindex, _| tables.ports.contains_key(&PortKey { ifindex: *ifindex }));
        let over = dataplane.close_ports(|open| {
            let MappingKey { router_vni, address, .. } = open.internal;
            let vm = Vm { ifindex: open.opening.ifindex, owner: FixedKey { router_vni, address } };
            open.opening.ends_ns > now_ns && vm.may_ask(tables)
        })?;
        let lost = over.iter().filter(|open| open.opening.ends_ns > now_ns);
        self.forget(lost.map(|open| open.opening.ifindex));
        self.closed.extend(over.iter().map(|open| open.external));
        Ok(())
    }

    /// These ended with their ports.
    pub(crate) fn lost(&mut self, openings: &[OpenPort]) {
        self.forget(openings.iter().map(|open| open.opening.ifindex));
    }

    /// The VMs behind these links are told that something of theirs was lost.
    fn forget(&mut self, links: impl Iterator<Item = u32>) {
        for ifindex in links {
            self.since.remove(&ifindex);
        }
    }

    /// External endpoints that were closed since it was asked last.
    pub(crate) fn take_closed(&mut self) -> Vec<BindingKey> {
        std::mem::take(&mut self.closed)
    }

    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let answered = self.answered.iter().map(|(code, count)| (code.name(), *count));
        let all = answered.chain([("unanswered", self.unanswered)]);
        all.filter(|(_, count)| *count > 0)
            .map(|(name, count)| (format!("agent.port-control-{name}"), count))
            .collect()
    }
}

/// A VM as who asks: its link, and the address it asks for.
#[derive(Clone, Copy, Debug)]
struct Vm {
    ifindex: u32,
    owner: FixedKey,
}

/// Who asks, and which router; none: the frame is no request to a router.
fn subject(tables: &TableSet, ifindex: u32, frame: &[u8]) -> Option<Vm> {
    let client = pcp::client(frame)?;
    let to: ethernet::Header = packet::read(frame, 0)?;
    let vni = tables.ports.get(&PortKey { ifindex })?.network_vni;
    let router = station(tables, vni, to.dst).filter(|station| station.kind == Station::ROUTER)?;
    Some(Vm { ifindex, owner: FixedKey { router_vni: router.id, address: client.into() } })
}

fn station(tables: &TableSet, vni: u32, mac: MacAddr) -> Option<&Station> {
    tables.stations.get(&StationKey { vni, mac, zero: 0 })
}

impl Vm {
    /// Whether its router lets it ask, and the address is its own and leaves by SNAT.
    fn may_ask(&self, tables: &TableSet) -> bool {
        let Self { ifindex, owner } = *self;
        let Some(vni) = tables.ports.get(&PortKey { ifindex }).map(|port| port.network_vni) else {
            return false;
        };
        let Some(snat) = tables.snat.get(&RouterKey { router_vni: owner.router_vni }) else { return false };
        let floating = tables.floating_by_fixed.get(&owner);
        let neighbor = tables.neighbors.get(&NeighborKey { vni, address: owner.address });
        let holder = neighbor.and_then(|neighbor| station(tables, vni, neighbor.mac));
        snat.flags & Snat::FLAG_PORT_CONTROL != 0
            && floating.is_none_or(|floating| floating.external_vni != snat.external_vni)
            && holder.is_some_and(|holder| holder.kind == Station::PORT && holder.id == ifindex)
    }

    fn mapping_key(&self, internal: Internal) -> MappingKey {
        let FixedKey { router_vni, address } = self.owner;
        MappingKey { router_vni, address, port: internal.port, protocol: internal.protocol, zero: 0 }
    }
}

/// The NAT, as far as it is a VM's.
struct Subscriber<'a> {
    vm: Vm,
    dataplane: &'a mut Dataplane,
    tables: &'a TableSet,
    now_ns: u64,
    random: &'a mut dyn FnMut() -> u32,
    closed: &'a mut Vec<BindingKey>,
    blocks_low: bool,
}

impl Subscriber<'_> {
    /// What another VM had asked for that had the address before.
    fn forget_former(&mut self) {
        let openings = self.dataplane.openings_of(self.vm.owner);
        let others = openings.filter(|open| open.opening.ifindex != self.vm.ifindex);
        let others: Vec<MappingKey> = others.map(|open| open.internal).collect();
        others.iter().for_each(|internal| self.end(internal));
    }

    fn end(&mut self, internal: &MappingKey) {
        match self.dataplane.close_port(internal) {
            Ok(open) => self.closed.extend(open.map(|open| open.external)),
            Err(error) => tracing::warn!(error = crate::chain(&error), "a mapping was not closed"),
        }
    }

    fn ends_ns(&self, lifetime_s: u32) -> u64 {
        self.now_ns.saturating_add(u64::from(lifetime_s) * SECOND_NS)
    }

    fn opened(&self, open: &OpenPort) -> Opened {
        let left_ns = open.opening.ends_ns.saturating_sub(self.now_ns);
        Opened {
            internal: Internal { protocol: open.internal.protocol, port: open.internal.port },
            nonce: open.opening.nonce,
            external: endpoint(&open.external),
            left_s: u32::try_from(left_ns / SECOND_NS).unwrap_or(u32::MAX),
        }
    }

    fn request(&self, wanted: &Wanted, inside_vni: u32) -> OpenRequest {
        let nonce: Nonce = wanted.nonce;
        let ends_ns = self.ends_ns(wanted.lifetime_s);
        let address = if wanted.external.ip().is_unspecified() {
            Address::ZERO
        } else {
            (*wanted.external.ip()).into()
        };
        OpenRequest {
            internal: self.vm.mapping_key(wanted.internal),
            inside_vni,
            opening: Opening { nonce, ifindex: self.vm.ifindex, ends_ns },
            wanted: (address, wanted.external.port()),
            exact: wanted.exact,
        }
    }
}

fn endpoint(external: &BindingKey) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(external.address.to_v4()), external.port)
}

impl Nat for Subscriber<'_> {
    fn find(&self, internal: Internal) -> Option<Opened> {
        self.dataplane.opening(&self.vm.mapping_key(internal)).map(|open| self.opened(open))
    }

    fn all(&self) -> Vec<Opened> {
        self.dataplane.openings_of(self.vm.owner).map(|open| self.opened(open)).collect()
    }

    fn open(&mut self, wanted: &Wanted) -> Result<SocketAddrV4, Refused> {
        let port = self.tables.ports.get(&PortKey { ifindex: self.vm.ifindex });
        let port = port.filter(|_| self.vm.may_ask(self.tables)).ok_or(Refused::NotTranslated)?;
        let request = self.request(wanted, port.network_vni);
        let opened = self.dataplane.open_port(self.now_ns, &request, self.random);
        let opened = opened.map_err(|error| {
            tracing::warn!(error = crate::chain(&error), "a mapping was not made");
            Refused::NoResources
        })?;
        self.blocks_low = matches!(opened, Err(NotOpened::NoBlock | NotOpened::NoPort));
        match opened {
            Ok(open) => Ok(endpoint(&open.external)),
            Err(NotOpened::NoSnat) => Err(Refused::NotTranslated),
            Err(NotOpened::NoBlock) => Err(Refused::NotYet),
            Err(NotOpened::NoPort) => Err(Refused::NoResources),
            Err(NotOpened::Quota) => Err(Refused::Quota),
            Err(NotOpened::NotExact) => Err(Refused::External),
        }
    }

    fn renew(&mut self, internal: Internal, lifetime_s: u32) -> Result<(), Refused> {
        let ends_ns = self.ends_ns(lifetime_s);
        match self.dataplane.prolong_port(&self.vm.mapping_key(internal), ends_ns) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refused::NoResources),
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "a mapping was not prolonged");
                Err(Refused::NoResources)
            }
        }
    }

    fn close(&mut self, internal: Internal) {
        self.end(&self.vm.mapping_key(internal));
    }
}
