//! Becoming a gateway and ceasing to be one, so that every change makes before it breaks.
//!
//! The controller tells all hosts at about the same time; which of them acts first is chance. So a host that ceases
//! to be a gateway answers for its addresses a moment longer and forwards longer still; and a host that others hear
//! of as a new gateway is used only when it has had the time to become one.

use model::slice::Slice;
use model::{HostId, Vni};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A host that ceases to be a gateway answers for its addresses until the others have announced them ...
const ANSWER_AFTER: Duration = Duration::from_secs(1);
/// ... and forwards what others still send to it until they have all heard of it.
const FORWARD_AFTER: Duration = Duration::from_secs(10);
/// A new gateway is used after this.
const JOIN_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Membership {
    /// External networks this host is a gateway of.
    of: BTreeSet<Vni>,
    /// And since when it is none of others any more.
    retired: BTreeMap<Vni, Instant>,
    /// Every host that is a gateway of anything; none before the first slice.
    gateways: Option<BTreeSet<HostId>>,
    /// New ones, and since when.
    joining: BTreeMap<HostId, Instant>,
    /// Retired, and answering.
    answering: BTreeSet<Vni>,
}

impl Membership {
    /// A slice came.
    pub(super) fn note(&mut self, now: Instant, own: HostId, slice: &Slice) {
        let networks = slice.external_networks.values();
        let of = networks.clone().filter(|network| network.gateways.contains(&own));
        let of: BTreeSet<Vni> = of.map(|network| network.vni).collect();
        let left = self.of.difference(&of).copied().collect::<Vec<_>>();
        self.retired.extend(left.iter().map(|vni| (*vni, now)));
        self.answering.extend(left);
        self.retired.retain(|vni, _| !of.contains(vni));
        self.answering.retain(|vni| !of.contains(vni));
        self.of = of;
        let gateways: BTreeSet<HostId> = networks.flat_map(|network| &network.gateways).copied().collect();
        if let Some(before) = &self.gateways {
            let new = gateways.difference(before).filter(|host| **host != own);
            self.joining.extend(new.map(|host| (*host, now)));
        }
        self.joining.retain(|host, _| gateways.contains(host));
        self.gateways = Some(gateways);
    }

    /// True if something has come to its end.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let count = |of: &Self| of.answering.len() + of.retired.len() + of.joining.len();
        let before = count(self);
        let retired = &mut self.retired;
        self.answering.retain(|vni| retired.get(vni).is_some_and(|since| now < *since + ANSWER_AFTER));
        retired.retain(|_, since| now < *since + FORWARD_AFTER);
        self.joining.retain(|_, since| now < *since + JOIN_AFTER);
        before != count(self)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let retired = self.retired.iter().map(|(vni, since)| {
            *since + if self.answering.contains(vni) { ANSWER_AFTER } else { FORWARD_AFTER }
        });
        let joining = self.joining.values().map(|since| *since + JOIN_AFTER);
        retired.chain(joining).min()
    }

    pub(super) fn is_gateway_of(&self, vni: Vni) -> bool {
        self.of.contains(&vni)
    }

    pub(super) fn lingering(&self) -> BTreeSet<Vni> {
        self.retired.keys().copied().collect()
    }

    pub(super) fn answering(&self) -> &BTreeSet<Vni> {
        &self.answering
    }

    /// Gateways that are not to be used yet.
    pub(super) fn joining(&self) -> impl Iterator<Item = HostId> {
        self.joining.keys().copied()
    }
}
