//! Metering as Neutron has it: labels, and rules that say which traffic across external gateways a label counts.
//! What hosts are told of them is [`crate::slice::Meter`].

use crate::resource::Standard;
use crate::security::Direction;
use crate::{MeteringLabelId, MeteringLabelRuleId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Counts what crosses the gateways of its project's routers, or of everybody's if it is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeteringLabel {
    pub id: MeteringLabelId,
    /// Without tags.
    pub standard: Standard,
    pub shared: bool,
}

/// What a label counts, or (`excluded`) does not count whatever its other rules say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeteringLabelRule {
    pub id: MeteringLabelRuleId,
    pub label: MeteringLabelId,
    pub direction: Direction,
    pub excluded: bool,
    pub prefixes: Prefixes,
}

/// Which packets of its direction a rule is about. Addresses are those inside the gateway: a VM's is its fixed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefixes {
    /// The VM's end has such an address: the source of egress, the destination of ingress. "Remote" is Neutron's word
    /// for it, and this what its agent does.
    Remote(IpNet),
    /// Of one version; none: any address.
    Ends { source: Option<IpNet>, destination: Option<IpNet> },
}

impl Prefixes {
    /// Is it about a packet of that direction between the VM and the outside?
    pub fn matches(&self, direction: Direction, vm: IpAddr, outside: IpAddr) -> bool {
        let has = |prefix: &Option<IpNet>, address| prefix.is_none_or(|prefix| prefix.contains(&address));
        match (self, direction) {
            (Self::Remote(prefix), _) => prefix.contains(&vm),
            (Self::Ends { source, destination }, Direction::Egress) => {
                has(source, vm) && has(destination, outside)
            }
            (Self::Ends { source, destination }, Direction::Ingress) => {
                has(source, outside) && has(destination, vm)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_about_the_addresses_of_its_direction() {
        let prefix = |text: &str| Some(text.parse::<IpNet>().unwrap());
        let (vm, outside): (IpAddr, IpAddr) = ("10.0.0.7".parse().unwrap(), "192.0.2.9".parse().unwrap());
        let (inside_net, outside_net) = (prefix("10.0.0.0/24"), prefix("192.0.2.0/24"));
        let ends = |source, destination| Prefixes::Ends { source, destination };
        let cases = [
            (Prefixes::Remote(inside_net.unwrap()), true, true),
            (Prefixes::Remote(outside_net.unwrap()), false, false),
            (ends(inside_net, None), true, false),
            (ends(None, inside_net), false, true),
            (ends(outside_net, None), false, true),
            (ends(inside_net, outside_net), true, false),
            (ends(prefix("::/0"), None), false, false),
        ];
        for (prefixes, egress, ingress) in cases {
            let matches = |direction| prefixes.matches(direction, vm, outside);
            let want = (egress, ingress);
            assert_eq!((matches(Direction::Egress), matches(Direction::Ingress)), want, "{prefixes:?}");
        }
    }
}
