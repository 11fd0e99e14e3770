//! Resolution of neighbours on external networks, sans IO.
//!
//! The default gateways of the networks this host sends to are resolved before anybody needs them; other
//! addresses when a packet missed them. A resolved neighbour is verified before it could be stale and kept
//! while the answer is outstanding: an entry that was right is never emptied because one probe was lost.
//! Only addresses that were asked for are learned, so nobody can fill the table from outside.
//!
//! ARP probes carry no sender address (RFC 5227 §1.1): a host that has no address of its own on the external
//! network, and DVR hosts have none, must not put a wrong one into the caches there.

use model::{Mac, Vni};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Neighbours that may be asked for besides the gateways. A VM that scans an external network on-link fills
/// this and then waits for entries to expire; gateways are never refused.
const ASKED_MAX: usize = 4096;
/// Between the probes for an unresolved address; doubles to the last.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Probes for an address that was asked for and never answered, before it is forgotten (the next packet asks
/// again).
const PROBES_UNANSWERED_MAX: u32 = 4;
/// A resolved neighbour is verified this often.
const VERIFY: Duration = Duration::from_secs(30);
/// A verification is repeated this often until it is answered.
const VERIFY_RETRY: Duration = Duration::from_secs(1);
/// Verifications without an answer before an asked neighbour is given up. A gateway is kept.
const VERIFY_UNANSWERED_MAX: u32 = 5;
/// Probes without an answer, the one that is due not counted, after which a gateway is said to be silent.
const SILENT_AFTER: u32 = 3;
/// Verifications are sent to the known MAC alone, from this one on to everybody: the MAC may have changed.
const VERIFY_BROADCAST_FROM: u32 = 2;

/// An address on an external network.
pub(crate) type Target = (Vni, IpAddr);

/// An ARP request or a neighbour solicitation to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) vni: Vni,
    pub(crate) address: IpAddr,
    /// To this MAC only; none: to everybody.
    pub(crate) unicast: Option<Mac>,
}

/// What is known of an address, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) target: Target,
    /// None: asked for, not answered yet.
    pub(crate) mac: Option<Mac>,
    pub(crate) gateway: bool,
    /// When somebody last said so; none: an earlier agent knew it, or nobody has.
    pub(crate) confirmed: Option<Instant>,
    /// Probes since.
    pub(crate) unanswered: u32,
}

#[derive(Debug)]
struct Entry {
    mac: Option<Mac>,
    gateway: bool,
    confirmed: Option<Instant>,
    /// Probes since the last answer.
    unanswered: u32,
    due: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Resolver {
    entries: BTreeMap<Target, Entry>,
}

impl Resolver {
    /// The gateways to keep resolved, and the networks on which anything can be resolved at all.
    pub(crate) fn set_gateways(
        &mut self,
        now: Instant,
        gateways: &BTreeSet<Target>,
        networks: &BTreeSet<Vni>,
    ) {
        self.entries.retain(|(vni, _), _| networks.contains(vni));
        for (target, entry) in &mut self.entries {
            entry.gateway = gateways.contains(target);
        }
        for target in gateways {
            self.entries.entry(*target).or_insert(Entry {
                mac: None,
                gateway: true,
                confirmed: None,
                unanswered: 0,
                due: now,
            });
        }
    }

    /// A packet missed this neighbour.
    pub(crate) fn ask(&mut self, now: Instant, target: Target) {
        let room = self.entries.len() < ASKED_MAX;
        if room || self.entries.contains_key(&target) {
            let fresh = Entry { mac: None, gateway: false, confirmed: None, unanswered: 0, due: now };
            self.entries.entry(target).or_insert(fresh);
        }
    }

    /// What an earlier agent left in the kernel: kept, and verified at once.
    pub(crate) fn adopt(&mut self, now: Instant, target: Target, mac: Mac) {
        if self.entries.len() < ASKED_MAX {
            let entry = Entry { mac: Some(mac), gateway: false, confirmed: None, unanswered: 0, due: now };
            self.entries.entry(target).or_insert(entry);
        }
    }

    /// Somebody said who has an address. True if the tables must change.
    pub(crate) fn learn(&mut self, now: Instant, target: Target, mac: Mac) -> bool {
        let Some(entry) = self.entries.get_mut(&target) else { return false };
        let changed = entry.mac != Some(mac);
        *entry = Entry {
            mac: Some(mac),
            gateway: entry.gateway,
            confirmed: Some(now),
            unanswered: 0,
            due: now + VERIFY,
        };
        changed
    }

    /// The probes that are due. True if a neighbour was given up, so that the tables must change.
    pub(crate) fn poll(&mut self, now: Instant) -> (Vec<Probe>, bool) {
        let mut probes = Vec::new();
        let before = self.resolved_count();
        self.entries.retain(|target, entry| entry.poll(now, *target, &mut probes));
        (probes, before != self.resolved_count())
    }

    fn resolved_count(&self) -> usize {
        self.entries.values().filter(|entry| entry.mac.is_some()).count()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.due).min()
    }

    pub(crate) fn resolved(&self) -> BTreeMap<Target, Mac> {
        self.entries.iter().filter_map(|(target, entry)| Some((*target, entry.mac?))).collect()
    }

    /// An IPv4 gateway that has not answered several probes in a row. One of IPv6 alone says nothing of the uplink.
    pub(crate) fn has_silent_gateway(&self) -> bool {
        let mut gateways =
            self.entries.iter().filter(|((_, address), entry)| entry.gateway && address.is_ipv4());
        gateways.any(|(_, entry)| entry.unanswered > SILENT_AFTER)
    }

    /// Every address that is known or asked for, with all there is to say.
    pub(crate) fn known(&self) -> impl Iterator<Item = Known> {
        self.entries.iter().map(|(target, entry)| Known {
            target: *target,
            mac: entry.mac,
            gateway: entry.gateway,
            confirmed: entry.confirmed,
            unanswered: entry.unanswered,
        })
    }

    /// Every address that is known or asked for.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Target, Option<Mac>)> {
        self.entries.iter().map(|(target, entry)| (*target, entry.mac))
    }
}

impl Entry {
    /// Sends what is due. False: to be forgotten.
    fn poll(&mut self, now: Instant, (vni, address): Target, probes: &mut Vec<Probe>) -> bool {
        if now < self.due {
            return true;
        }
        let limit = if self.mac.is_some() { VERIFY_UNANSWERED_MAX } else { PROBES_UNANSWERED_MAX };
        if !self.gateway && self.unanswered >= limit {
            return false;
        }
        let unicast = self.mac.filter(|_| self.unanswered < VERIFY_BROADCAST_FROM);
        probes.push(Probe { vni, address, unicast });
        let wait = match self.mac {
            Some(_) if self.unanswered < VERIFY_UNANSWERED_MAX => VERIFY_RETRY,
            Some(_) => VERIFY,
            None => (RETRY_FIRST * 2u32.pow(self.unanswered.min(5))).min(RETRY_LAST),
        };
        self.unanswered = self.unanswered.saturating_add(1);
        self.due = now + wait;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MAC: Mac = Mac([2, 0, 0, 0, 7, 1]);

    fn vni() -> Vni {
        Vni::new(201).unwrap()
    }

    fn target(last: u8) -> Target {
        (vni(), Ipv4Addr::new(172, 22, 7, last).into())
    }

    fn gateways(resolver: &mut Resolver, now: Instant, lasts: &[u8]) {
        let gateways = lasts.iter().map(|last| target(*last)).collect();
        resolver.set_gateways(now, &gateways, &BTreeSet::from([vni()]));
    }

    /// Runs the clock for `span` and returns when probes were sent, in milliseconds.
    fn run(resolver: &mut Resolver, from: Instant, span: Duration) -> Vec<u64> {
        let mut sent = Vec::new();
        let mut now = from;
        while now <= from + span {
            sent.extend(resolver.poll(now).0.iter().map(|_| (now - from).as_millis() as u64));
            match resolver.deadline() {
                Some(deadline) => now = deadline.max(now),
                None => break,
            }
        }
        sent
    }

    #[test]
    fn a_gateway_is_asked_for_at_once_and_for_ever() {
        let (mut resolver, start) = (Resolver::default(), Instant::now());
        gateways(&mut resolver, start, &[1]);
        let sent = run(&mut resolver, start, Duration::from_secs(20));
        assert_eq!(sent, [0, 200, 600, 1400, 3000, 6200, 11200, 16200]);
    }

    #[test]
    fn an_asked_address_that_never_answers_is_forgotten_after_a_few_probes() {
        let (mut resolver, start) = (Resolver::default(), Instant::now());
        resolver.ask(start, target(9));
        resolver.ask(start, target(9));
        let sent = run(&mut resolver, start, Duration::from_secs(60));
        assert_eq!(sent, [0, 200, 600, 1400]);
        assert_eq!(resolver.all().count(), 0);
    }

    #[test]
    fn only_what_was_asked_for_is_learned() {
        let (mut resolver, start) = (Resolver::default(), Instant::now());
        assert!(!resolver.learn(start, target(66), MAC));
        assert!(resolver.resolved().is_empty());
        resolver.ask(start, target(9));
        assert!(resolver.learn(start, target(9), MAC));
        assert!(!resolver.learn(start, target(9), MAC), "the same answer changes nothing");
        assert_eq!(resolver.resolved(), BTreeMap::from([(target(9), MAC)]));
        let moved = Mac([2, 0, 0, 0, 7, 2]);
        assert!(resolver.learn(start, target(9), moved));
        assert_eq!(resolver.resolved(), BTreeMap::from([(target(9), moved)]));
    }

    #[test]
    fn a_resolved_gateway_is_verified_first_by_unicast_and_kept_while_silent() {
        let (mut resolver, start) = (Resolver::default(), Instant::now());
        gateways(&mut resolver, start, &[1]);
        resolver.learn(start, target(1), MAC);
        assert_eq!(resolver.poll(start + VERIFY - Duration::from_millis(1)).0, []);
        let (probes, _) = resolver.poll(start + VERIFY);
        assert_eq!(probes, [Probe { vni: vni(), address: target(1).1, unicast: Some(MAC) }]);
        let sent = run(&mut resolver, start, Duration::from_secs(600));
        assert!(sent.len() < 30, "{sent:?}");
        assert_eq!(resolver.resolved(), BTreeMap::from([(target(1), MAC)]));
    }

    #[test]
    fn an_adopted_neighbour_is_kept_and_verified_at_once() {
        let (mut resolver, start) = (Resolver::default(), Instant::now());
        resolver.adopt(start, target(1), MAC);
        gateways(&mut resolver, start, &[1]);
        assert_eq!(resolver.resolved(), BTreeMap::from([(target(1), MAC)]));
        let (probes, given_up) = resolver.poll(start);
        assert_eq!(probes, [Probe { vni: vni(), address: target(1).1, unicast: Some(MAC) }]);
        assert!(!given_up);
    }

    #[test]
    fn an_asked_neighbour_is_given_up_only_after_several_silent_verifications() {
        let (mut resolver, start) = (Resolver::default(), Instant::now());
        resolver.ask(start, target(9));
        resolver.learn(start, target(9), MAC);
        let mut now = start + VERIFY;
        let mut given_up = false;
        let mut probes = Vec::new();
        while !given_up {
            let (sent, changed) = resolver.poll(now);
            probes.extend(sent);
            given_up = changed;
            now += VERIFY_RETRY;
        }
        assert_eq!(probes.len(), VERIFY_UNANSWERED_MAX as usize);
        assert_eq!(probes.iter().filter(|probe| probe.unicast.is_some()).count(), 2);
        assert!(resolver.resolved().is_empty());
    }

    #[test]
    fn asking_is_bounded_and_gateways_have_room() {
        let (mut resolver, start) = (Resolver::default(), Instant::now());
        for number in 0..ASKED_MAX as u32 + 100 {
            resolver.ask(start, (vni(), Ipv4Addr::from(0x0a00_0000 + number).into()));
        }
        assert_eq!(resolver.all().count(), ASKED_MAX);
        gateways(&mut resolver, start, &[1]);
        assert_eq!(resolver.all().count(), ASKED_MAX + 1);
    }

    #[test]
    fn networks_that_are_gone_take_their_neighbours_with_them() {
        let (mut resolver, start) = (Resolver::default(), Instant::now());
        gateways(&mut resolver, start, &[1]);
        resolver.learn(start, target(1), MAC);
        resolver.set_gateways(start, &BTreeSet::new(), &BTreeSet::new());
        assert_eq!(resolver.all().count(), 0);
    }
}
