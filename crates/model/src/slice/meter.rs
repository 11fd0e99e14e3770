//! Metering as a host is told it: what the labels of a router count at its external gateway.

use crate::MeteringLabelId;
use crate::metering::Prefixes;
use crate::security::Direction;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A label with its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    pub label: MeteringLabelId,
    pub rules: Vec<MeterRule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterRule {
    pub direction: Direction,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excluded: bool,
    pub prefixes: Prefixes,
}

impl Meter {
    /// Does the label count a packet of that direction between the VM and the outside? Once, however many of its rules
    /// are about it, and not if one of these excludes it.
    pub fn counts(&self, direction: Direction, vm: IpAddr, outside: IpAddr) -> bool {
        let about =
            |rule: &&MeterRule| rule.direction == direction && rule.prefixes.matches(direction, vm, outside);
        let (mut counted, mut excluded) = (false, false);
        for rule in self.rules.iter().filter(about) {
            counted |= !rule.excluded;
            excluded |= rule.excluded;
        }
        counted && !excluded
    }
}
