//! What the programs know of the ports of a crowded block, put right: they only ever learn that ports are taken.

use super::Sweeper;
use crate::error::Error;
use pipeline::Address;
use pipeline::bounds::BLOCK_WORDS_MAX;
use pipeline::nat::{BindingKey, PortBits, PortBitsKey};
use pipeline::table_set::TableSet;
use std::array;
use std::collections::{BTreeMap, HashMap};

const WORDS: usize = BLOCK_WORDS_MAX as usize;

/// Crowded blocks by external network, address, protocol and first port.
#[derive(Debug, Default)]
pub(super) struct Crowded(BTreeMap<(u32, Address, u8, u16), Block>);

#[derive(Debug)]
struct Block {
    /// Ports; 0: no longer this host's.
    size: u16,
    taken: [u64; WORDS],
}

impl Crowded {
    /// A claim that stands.
    pub(super) fn note(&mut self, claim: &BindingKey) {
        let first = (claim.external_vni, claim.address, claim.protocol, 0);
        let upto = (claim.external_vni, claim.address, claim.protocol, claim.port);
        let Some((key, block)) = self.0.range_mut(first..=upto).next_back() else { return };
        let offset = claim.port - key.3;
        if offset < block.size
            && let Some(word) = block.taken.get_mut(usize::from(offset / 64))
        {
            *word |= 1 << (offset % 64);
        }
    }
}

impl Sweeper {
    /// The blocks of which the programs keep a record, nothing noted yet.
    pub(super) fn crowded(&self, programmed: &TableSet) -> Result<Crowded, Error> {
        let mut sizes = HashMap::new();
        for block in programmed.own_blocks.values() {
            sizes.insert((block.address, block.first), block.size);
        }
        let mut crowded = Crowded::default();
        for row in self.port_bits.elements() {
            let (key, _) = row.map_err(Error::table("port_bits"))?;
            let size = sizes.get(&(key.address, key.first)).copied().unwrap_or(0);
            let block = Block { size, taken: [0; WORDS] };
            crowded.0.insert((key.external_vni, key.address, key.protocol, key.first), block);
        }
        Ok(crowded)
    }

    /// Writes what was noted. A claim made meanwhile is missing, which costs a packet one attempt.
    pub(super) fn correct_port_bits(&self, crowded: &Crowded) -> Result<(), Error> {
        let table = &self.port_bits;
        for ((external_vni, address, protocol, first), block) in &crowded.0 {
            let key = PortBitsKey {
                external_vni: *external_vni,
                address: *address,
                first: *first,
                protocol: *protocol,
                zero: 0,
            };
            let used: u32 = block.taken.iter().map(|word| word.count_ones()).sum();
            if used <= u32::from(block.size) / 4 {
                table.delete(&key).map_err(Error::table("port_bits"))?;
            } else {
                let bits = PortBits(array::from_fn(|at| block.taken.get(at).copied().unwrap_or(0).into()));
                table.put(&key, &bits).map_err(Error::table("port_bits"))?;
            }
        }
        Ok(())
    }
}
