//! Mappings that VMs asked for (PCP): the agent makes, prolongs and ends them; the programs only look whether there is
//! one. What is pinned is the truth, and [`Dataplane`] keeps a copy, of which it is the only writer.
//!
//! Who races: the programs may map the same endpoint, or claim the same port, at the same time, and the sweep may end a
//! mapping that nobody used. So a port is claimed as the programs do it, by an insert that fails if it is taken; and a
//! mapping that is there already is looked for again after it was opened, which the sweep looks at again after it
//! ended one.

use crate::Dataplane;
use crate::error::Error;
use crate::object::KernelTables;
use crate::sessions::binding_of;
use pipeline::Address;
use pipeline::bounds::{OPENINGS_MAX, OPENINGS_PER_VM_MAX};
use pipeline::nat::{BindingKey, Mapping, MappingKey, Opening, paired_address};
use pipeline::runtime::Share;
use pipeline::tables::{BlockKey, FixedKey, PortBlock, RouterKey, Snat, Usage};
use std::collections::BTreeMap;

/// Random ports that are tried before they are tried one by one, and how many of those.
const PROBES_MAX: usize = 32;
const SEARCH_MAX: usize = 1024;

/// By internal endpoint.
pub(crate) type Openings = BTreeMap<MappingKey, OpenPort>;

/// A mapping that a VM asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPort {
    pub internal: MappingKey,
    pub external: BindingKey,
    pub opening: Opening,
}

/// A mapping to be made.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest {
    pub internal: MappingKey,
    /// The network of the internal endpoint.
    pub inside_vni: u32,
    pub opening: Opening,
    /// The external endpoint that is wanted; what is zero does not matter.
    pub wanted: (Address, u16),
    /// Another one is none.
    pub exact: bool,
}

/// Why there is no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// The router does not translate.
    NoSnat,
    /// The host has no port of the router.
    NoBlock,
    /// No free one was found.
    NoPort,
    /// The VM has its share, or is too fast.
    Quota,
    /// The wanted one is not free, or not the VM's to have.
    NotExact,
}

impl OpenRequest {
    fn suits(&self, external: &BindingKey) -> bool {
        let (address, port) = self.wanted;
        (address.is_zero() || address == external.address) && (port == 0 || port == external.port)
    }

    fn owner(&self) -> FixedKey {
        FixedKey { router_vni: self.internal.router_vni, address: self.internal.address }
    }
}

/// The openings that the kernel holds, each with its internal endpoint; those that lead nowhere are removed.
pub(crate) fn read(tables: &KernelTables) -> Result<Openings, Error> {
    let mut openings = Openings::new();
    let rows: Result<Vec<_>, _> = tables.openings.elements().collect();
    for (external, opening) in rows.map_err(Error::table("openings"))? {
        match tables.bindings.get(&external).map_err(Error::table("bindings"))? {
            Some(internal) => drop(openings.insert(internal, OpenPort { internal, external, opening })),
            None => drop(tables.openings.delete(&external).map_err(Error::table("openings"))?),
        }
    }
    Ok(openings)
}

impl Dataplane {
    /// What was asked for an internal endpoint.
    pub fn opening(&self, internal: &MappingKey) -> Option<&OpenPort> {
        self.openings.get(internal)
    }

    /// What a VM asked for.
    pub fn openings_of(&self, owner: FixedKey) -> impl Iterator<Item = &OpenPort> {
        let FixedKey { router_vni, address } = owner;
        let first = MappingKey { router_vni, address, port: 0, protocol: 0, zero: 0 };
        let last = MappingKey { port: u16::MAX, protocol: u8::MAX, ..first };
        self.openings.range(first..=last).map(|(_, open)| open)
    }

    /// Makes a mapping that was asked for, or opens the one that the endpoint has. `random`: any bits.
    pub fn open_port(
        &mut self,
        now_ns: u64,
        request: &OpenRequest,
        random: &mut dyn FnMut() -> u32,
    ) -> Result<Result<OpenPort, NotOpened>, Error> {
        let Some(snat) =
            self.current.snat.get(&RouterKey { router_vni: request.internal.router_vni }).copied()
        else {
            return Ok(Err(NotOpened::NoSnat));
        };
        if self.openings.len() >= OPENINGS_MAX as usize {
            return Ok(Err(NotOpened::NoPort));
        }
        if self.openings_of(request.owner()).count() >= OPENINGS_PER_VM_MAX {
            return Ok(Err(NotOpened::Quota));
        }
        match self.open_mapping(request)? {
            Some(opened) => Ok(opened),
            None => self.map_new_port(now_ns, &snat, request, random),
        }
    }

    /// Opens the mapping that the endpoint has; none: it has none, or has it no more.
    fn open_mapping(&mut self, request: &OpenRequest) -> Result<Option<Result<OpenPort, NotOpened>>, Error> {
        let Some(external) = self.external_of(&request.internal)? else { return Ok(None) };
        if request.exact && !request.suits(&external) {
            return Ok(Some(Err(NotOpened::NotExact)));
        }
        let open = self.write_opening(request, external)?;
        if self.external_of(&request.internal)? == Some(external) {
            return Ok(Some(Ok(open)));
        }
        self.close_port(&request.internal)?;
        Ok(None)
    }

    fn map_new_port(
        &mut self,
        now_ns: u64,
        snat: &Snat,
        request: &OpenRequest,
        random: &mut dyn FnMut() -> u32,
    ) -> Result<Result<OpenPort, NotOpened>, Error> {
        let blocks = self.blocks_of(snat, request);
        if blocks.is_empty() {
            return Ok(Err(NotOpened::NoBlock));
        }
        if !self.reserve(now_ns, snat, request)? {
            return Ok(Err(NotOpened::Quota));
        }
        for (address, port) in candidates(&blocks, request, random) {
            let internal = request.internal;
            let external_vni = snat.external_vni;
            let external = BindingKey { external_vni, address, port, protocol: internal.protocol, zero: 0 };
            let tables = &self.object.tables;
            if !tables.bindings.add(&external, &internal).map_err(Error::table("bindings"))? {
                continue;
            }
            let open = self.write_opening(request, external)?;
            let mapping = Mapping {
                external_vni,
                address,
                port,
                zero: 0,
                inside_vni: request.inside_vni,
                zero_end: 0,
                created_ns: now_ns,
            };
            let tables = &self.object.tables;
            if tables.mappings.add(&internal, &mapping).map_err(Error::table("mappings"))? {
                return Ok(Ok(open));
            }
            // The VM's own packet was quicker.
            self.close_port(&internal)?;
            self.object.tables.bindings.delete(&external).map_err(Error::table("bindings"))?;
            return Ok(self.open_mapping(request)?.unwrap_or(Err(NotOpened::NoPort)));
        }
        Ok(Err(if request.exact { NotOpened::NotExact } else { NotOpened::NoPort }))
    }

    /// Sets when an opening ends; false: there is none.
    pub fn prolong_port(&mut self, internal: &MappingKey, ends_ns: u64) -> Result<bool, Error> {
        let Some(open) = self.openings.get_mut(internal) else { return Ok(false) };
        let opening = Opening { ends_ns, ..open.opening };
        self.object.tables.openings.put(&open.external, &opening).map_err(Error::table("openings"))?;
        open.opening = opening;
        Ok(true)
    }

    /// Ends an opening: its mapping lives on as long as sessions from inside use it. None: there was none.
    pub fn close_port(&mut self, internal: &MappingKey) -> Result<Option<OpenPort>, Error> {
        let Some(open) = self.openings.get(internal).copied() else { return Ok(None) };
        self.object.tables.openings.delete(&open.external).map_err(Error::table("openings"))?;
        self.openings.remove(internal);
        Ok(Some(open))
    }

    /// Ends the openings for which `keep` is false.
    pub fn close_ports(&mut self, mut keep: impl FnMut(&OpenPort) -> bool) -> Result<Vec<OpenPort>, Error> {
        let over: Vec<OpenPort> = self.openings.values().filter(|open| !keep(open)).copied().collect();
        for open in &over {
            self.close_port(&open.internal)?;
        }
        Ok(over)
    }

    fn external_of(&self, internal: &MappingKey) -> Result<Option<BindingKey>, Error> {
        let mapping = self.object.tables.mappings.get(internal).map_err(Error::table("mappings"))?;
        Ok(mapping.map(|mapping| binding_of(internal, &mapping)))
    }

    fn write_opening(&mut self, request: &OpenRequest, external: BindingKey) -> Result<OpenPort, Error> {
        let OpenRequest { internal, opening, .. } = *request;
        self.object.tables.openings.put(&external, &opening).map_err(Error::table("openings"))?;
        let open = OpenPort { internal, external, opening };
        self.openings.insert(internal, open);
        Ok(open)
    }

    /// The blocks that the VM's mappings may be in: of its own address.
    fn blocks_of(&self, snat: &Snat, request: &OpenRequest) -> Vec<PortBlock> {
        let MappingKey { router_vni, address, .. } = request.internal;
        let addresses = snat.address_count.max(1);
        let own = paired_address(&address, addresses);
        let first = BlockKey { router_vni, slot: 0 };
        let last = BlockKey { router_vni, slot: u32::MAX };
        let blocks = self.current.own_blocks.range(first..=last);
        blocks.filter(|(key, _)| key.slot % addresses == own).map(|(_, block)| *block).collect()
    }

    /// Counts one more mapping of the VM within its share, as the programs do. What they count at the same moment may be
    /// lost until the next sweep, which counts anew.
    fn reserve(&mut self, now_ns: u64, snat: &Snat, request: &OpenRequest) -> Result<bool, Error> {
        let share = Share { ports_max: snat.ports_max, mappings_per_second: snat.mappings_per_second };
        if share.ports_max | share.mappings_per_second == 0 {
            return Ok(true);
        }
        let (table, owner) = (&self.object.tables.port_usage, request.owner());
        let usage = table.get(&owner).map_err(Error::table("port_usage"))?.unwrap_or_default();
        let Ok(paid_ns) = share.admit(&usage, now_ns) else { return Ok(false) };
        let counted = Usage { ports: usage.ports.saturating_add(1), full_at_ns: paid_ns, ..usage };
        table.put(&owner, &counted).map_err(Error::table("port_usage"))?;
        Ok(true)
    }
}

/// External endpoints to try, in that order: the one wanted, some by chance, some one after the other.
fn candidates(
    blocks: &[PortBlock],
    request: &OpenRequest,
    random: &mut dyn FnMut() -> u32,
) -> Vec<(Address, u16)> {
    let (address, port) = request.wanted;
    let of_address = |block: &&PortBlock| address.is_zero() || block.address == address;
    let has = |block: &PortBlock| port.checked_sub(block.first).is_some_and(|offset| offset < block.size);
    let mut tried: Vec<(Address, u16)> = blocks
        .iter()
        .filter(of_address)
        .filter(|block| has(block))
        .map(|block| (block.address, port))
        .collect();
    if request.exact && port != 0 {
        return tried;
    }
    let blocks: Vec<&PortBlock> =
        if request.exact { blocks.iter().filter(of_address).collect() } else { blocks.iter().collect() };
    let mut pick = |below: usize| (random() as usize).checked_rem(below).unwrap_or(0);
    for _ in 0..PROBES_MAX {
        let at = pick(blocks.len());
        let Some(block) = blocks.get(at) else { break };
        tried.push((block.address, block.first.wrapping_add(pick(usize::from(block.size)) as u16)));
    }
    let all =
        blocks.iter().flat_map(|block| (0..block.size).map(|offset| (block.address, block.first + offset)));
    tried.extend(all.take(SEARCH_MAX));
    tried
}
