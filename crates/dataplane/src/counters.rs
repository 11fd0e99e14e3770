//! Reading what the pipeline counted.

use crate::Dataplane;
use crate::error::Error;
use crate::sys::possible_cpus;
use pipeline::tables::PortCounters;
use pipeline::verdict::counter;
use pipeline::{Punt, Reason, Stage, Total};
use std::collections::BTreeMap;

/// The counters of one moment, summed over the CPUs. Packets are wire packets; they are read one after the
/// other, so sums agree exactly only when no packet is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters(Vec<u64>);

impl Counters {
    pub fn total(&self, total: Total) -> u64 {
        self.slot(counter::total(total))
    }

    pub fn drop(&self, stage: Stage, reason: Reason) -> u64 {
        self.slot(counter::drop(stage, reason))
    }

    pub fn punt(&self, punt: Punt) -> u64 {
        self.slot(counter::punt(punt))
    }

    /// Every total, also those that are 0.
    pub fn totals(&self) -> impl Iterator<Item = (Total, u64)> {
        Total::ALL.iter().map(|total| (*total, self.total(*total)))
    }

    /// Every drop counter that is not 0.
    pub fn drops(&self) -> impl Iterator<Item = (Stage, Reason, u64)> {
        let pairs = Stage::ALL.iter().flat_map(|stage| Reason::ALL.iter().map(|reason| (*stage, *reason)));
        pairs
            .map(|(stage, reason)| (stage, reason, self.drop(stage, reason)))
            .filter(|(_, _, count)| *count != 0)
    }

    /// Every punt counter that is not 0.
    pub fn punts(&self) -> impl Iterator<Item = (Punt, u64)> {
        Punt::ALL.iter().map(|punt| (*punt, self.punt(*punt))).filter(|(_, count)| *count != 0)
    }

    fn slot(&self, slot: u32) -> u64 {
        self.0.get(slot as usize).copied().unwrap_or(0)
    }
}

impl Dataplane {
    pub fn counters(&self) -> Result<Counters, Error> {
        let fail = Error::table("counters");
        let cpus = possible_cpus().map_err(&fail)?;
        Ok(Counters(self.object.tables.counters.sums(counter::SLOTS, cpus).map_err(&fail)?))
    }

    /// One total alone: what costs least to ask for often.
    pub fn total(&self, total: Total) -> Result<u64, Error> {
        let fail = Error::table("counters");
        let cpus = possible_cpus().map_err(&fail)?;
        let of_cpus = self.object.tables.counters.get_per_cpu(&counter::total(total), cpus).map_err(&fail)?;
        Ok(of_cpus.into_iter().flatten().fold(0, u64::wrapping_add))
    }

    /// Of every programmed port, by interface index.
    pub fn port_counters(&self) -> Result<BTreeMap<u32, PortCounters>, Error> {
        let fail = Error::table("port_counters");
        let cpus = possible_cpus().map_err(&fail)?;
        let mut counters = BTreeMap::new();
        for key in self.current.ports.keys() {
            let values = self.object.tables.port_counters.get_per_cpu(key, cpus).map_err(&fail)?;
            let sum = values.into_iter().flatten().fold(PortCounters::default(), |sum, cpu| PortCounters {
                sent_packets: sum.sent_packets.wrapping_add(cpu.sent_packets),
                sent_bytes: sum.sent_bytes.wrapping_add(cpu.sent_bytes),
                delivered_packets: sum.delivered_packets.wrapping_add(cpu.delivered_packets),
                delivered_bytes: sum.delivered_bytes.wrapping_add(cpu.delivered_bytes),
            });
            counters.insert(key.ifindex, sum);
        }
        Ok(counters)
    }
}
