//! The schedule of gratuitous ARP and of unsolicited neighbour advertisements, sans IO.
//!
//! An address is announced when this host begins to answer for it, again every 2 s for 60 s (a peer may drop
//! an update that comes within its locktime), and every 60 s after that, so that the fabric's MAC tables
//! never age out. Of an address it does not answer for, a host says nothing.
//!
//! Where another host announces such an address, the fabric believes that one. Mostly it is about to be the
//! owner, and this host ceases to be. If it dies before that, nothing here changes, and only a new
//! announcement brings the packets back: at once when a host dies, and after `DEFEND_INTERVAL` (RFC 5227
//! section 2.4) in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const REPEAT: Duration = Duration::from_secs(2);
const REPEAT_FOR: Duration = Duration::from_secs(60);
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// An address this host answers for, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) address: IpAddr,
    pub(crate) uplink_ifindex: u32,
    /// 0: untagged.
    pub(crate) vlan: u16,
}

#[derive(Debug)]
struct Schedule {
    claimed: Instant,
    due: Instant,
    /// Another host announced the address later than this one.
    contested: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Announcer {
    claims: BTreeMap<Claim, Schedule>,
}

impl Announcer {
    /// Everything this host answers for from now on.
    pub(crate) fn set(&mut self, now: Instant, claims: &BTreeSet<Claim>) {
        self.claims.retain(|claim, _| claims.contains(claim));
        for claim in claims {
            self.claims.entry(*claim).or_insert(Schedule { claimed: now, due: now, contested: false });
        }
    }

    /// Another host announced an address.
    pub(crate) fn contest(&mut self, now: Instant, claim: &Claim) {
        if let Some(schedule) = self.claims.get_mut(claim) {
            schedule.contested = true;
            schedule.due = schedule.due.min(now + DEFEND_INTERVAL);
        }
    }

    /// A host died, perhaps one that announced what this host still answers for.
    pub(crate) fn defend(&mut self, now: Instant) {
        self.claims
            .values_mut()
            .filter(|schedule| schedule.contested)
            .for_each(|schedule| schedule.due = now);
    }

    /// What is to be announced now.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Claim> {
        let due = self.claims.iter_mut().filter(|(_, schedule)| schedule.due <= now);
        due.map(|(claim, schedule)| {
            let fresh = now < schedule.claimed + REPEAT_FOR;
            schedule.contested = false;
            schedule.due = now + if fresh { REPEAT } else { KEEP_ALIVE };
            *claim
        })
        .collect()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.claims.values().map(|schedule| schedule.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn claim(last: u8) -> Claim {
        Claim { address: Ipv4Addr::new(172, 22, 7, last).into(), uplink_ifindex: 3, vlan: 2207 }
    }

    /// Seconds after `start` at which something was announced, for `span` seconds.
    fn run(announcer: &mut Announcer, start: Instant, span: u64) -> Vec<u64> {
        let seconds =
            (0..span).filter(|second| !announcer.poll(start + Duration::from_secs(*second)).is_empty());
        seconds.collect()
    }

    #[test]
    fn at_claim_every_two_seconds_for_a_minute_then_every_minute() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.set(start, &BTreeSet::from([claim(27)]));
        let want: Vec<u64> = (0..=60).step_by(2).chain([120, 180, 240]).collect();
        assert_eq!(run(&mut announcer, start, 241), want);
    }

    #[test]
    fn a_claim_that_stays_is_not_begun_again_and_a_lost_one_is_silent() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.set(start, &BTreeSet::from([claim(27)]));
        assert_eq!(announcer.poll(start), [claim(27)]);
        announcer.set(start, &BTreeSet::from([claim(27), claim(28)]));
        assert_eq!(announcer.poll(start), [claim(28)]);
        announcer.set(start, &BTreeSet::new());
        assert!(run(&mut announcer, start, 300).is_empty());
        assert_eq!(announcer.deadline(), None);
    }

    #[test]
    fn what_another_announced_is_announced_again_when_a_host_dies_or_after_a_while() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.set(start, &BTreeSet::from([claim(27), claim(28)]));
        let settled = start + Duration::from_secs(61);
        run(&mut announcer, start, 61);
        announcer.defend(settled);
        assert_eq!(announcer.poll(settled), [], "nobody contested anything");
        announcer.contest(settled, &claim(27));
        announcer.contest(settled, &claim(99));
        assert_eq!(announcer.poll(settled), []);
        announcer.defend(settled);
        assert_eq!(announcer.poll(settled), [claim(27)]);
        announcer.contest(settled, &claim(28));
        assert_eq!(announcer.poll(settled + DEFEND_INTERVAL), [claim(28)]);
    }

    #[test]
    fn another_vlan_or_uplink_is_another_claim() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.set(start, &BTreeSet::from([claim(27)]));
        announcer.poll(start);
        let moved = Claim { vlan: 2208, ..claim(27) };
        announcer.set(start, &BTreeSet::from([moved]));
        assert_eq!(announcer.poll(start), [moved]);
    }
}
