//! Who else answers for an address, asked on the external network itself, sans IO.
//!
//! For a host that hears no other host: it is cut off from the underlay, or the others are dead, and only the other
//! side of the network can tell. What it owns with all hosts alive it keeps, and asks who else answers: the others
//! take over from a host that they do not hear, and then it yields. What it does not own it takes when nobody has
//! answered [`UNANSWERED_MAX`] times. In a total partition nobody yields and nobody takes, because every owner goes
//! on answering.

use crate::neighbors::{Probe, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Between questions about an address that somebody may answer for.
const ASK: Duration = Duration::from_millis(40);
/// Between questions about one that is answered for: by this host, or by another.
const ASK_SETTLED: Duration = Duration::from_secs(1);
/// Questions at the quick pace about an address that this host keeps: the others notice within this time.
const QUICK_QUESTIONS: u32 = 25;
/// Questions without an answer after which this host takes the address.
const UNANSWERED_MAX: u32 = 3;
/// Questions at a time, and how long the others wait: all at once would be a storm.
const QUESTIONS_PER_TURN: usize = 16;
const TURN: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Entry {
    /// This host answers.
    claimed: bool,
    unanswered: u32,
    due: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Rivals {
    entries: BTreeMap<Target, Entry>,
}

impl Rivals {
    /// What this host would answer for, and whether it owns it with all hosts alive; nothing if it hears another
    /// host.
    pub(crate) fn set(&mut self, now: Instant, contested: &BTreeMap<Target, bool>) {
        self.entries.retain(|target, _| contested.contains_key(target));
        for (target, natural) in contested {
            let fresh = Entry { claimed: *natural, unanswered: 0, due: now };
            self.entries.entry(*target).or_insert(fresh);
        }
    }

    /// Another said that it has an address. True if this host yields.
    pub(crate) fn heard(&mut self, now: Instant, target: Target) -> bool {
        let Some(entry) = self.entries.get_mut(&target) else { return false };
        let yields = entry.claimed;
        *entry = Entry { claimed: false, unanswered: 0, due: now + ASK_SETTLED };
        yields
    }

    /// The questions that are due. True if this host takes an address.
    pub(crate) fn poll(&mut self, now: Instant) -> (Vec<Probe>, bool) {
        let (mut probes, mut takes) = (Vec::new(), false);
        for ((vni, address), entry) in &mut self.entries {
            if now < entry.due {
                continue;
            }
            if probes.len() >= QUESTIONS_PER_TURN {
                entry.due = now + TURN;
                continue;
            }
            if !entry.claimed && entry.unanswered >= UNANSWERED_MAX {
                (entry.claimed, takes) = (true, true);
            }
            entry.unanswered = entry.unanswered.saturating_add(1);
            entry.due = now + if entry.unanswered < QUICK_QUESTIONS { ASK } else { ASK_SETTLED };
            probes.push(Probe { vni: *vni, address: *address, unicast: None });
        }
        (probes, takes)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.due).min()
    }

    /// Addresses that this host does not answer for.
    pub(crate) fn withheld(&self) -> BTreeSet<Target> {
        self.entries.iter().filter(|(_, entry)| !entry.claimed).map(|(target, _)| *target).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Vni;
    use std::net::Ipv4Addr;

    const MS: Duration = Duration::from_millis(1);

    fn target() -> Target {
        (Vni::new(201).unwrap(), Ipv4Addr::new(172, 22, 7, 27).into())
    }

    /// Hosts that hear nobody, on one external network that works. The first owns the address by right.
    struct Segment {
        hosts: Vec<Rivals>,
        now: Instant,
        questions: usize,
    }

    impl Segment {
        fn new(hosts: usize) -> Self {
            let mut segment = Self { hosts: Vec::new(), now: Instant::now(), questions: 0 };
            for number in 0..hosts {
                let mut host = Rivals::default();
                host.set(segment.now, &BTreeMap::from([(target(), number == 0)]));
                segment.hosts.push(host);
            }
            segment
        }

        /// Runs; then says who answers. `outsider`: somebody who can be heard answers too.
        fn run(&mut self, span_ms: u64, outsider: bool) -> Vec<usize> {
            self.questions = 0;
            for _ in 0..span_ms {
                self.now += MS;
                for asks in 0..self.hosts.len() {
                    let asked = self.hosts[asks].poll(self.now).0.len();
                    self.questions += asked;
                    let answer = outsider || self.claimed().iter().any(|answers| *answers != asks);
                    if asked > 0 && answer {
                        self.hosts[asks].heard(self.now, target());
                    }
                }
            }
            self.claimed()
        }

        fn claimed(&self) -> Vec<usize> {
            let claimed = self.hosts.iter().enumerate().filter(|(_, host)| host.withheld().is_empty());
            claimed.map(|(number, _)| number).collect()
        }
    }

    #[test]
    fn in_a_total_partition_the_owner_stays() {
        let mut segment = Segment::new(3);
        for _ in 0..100 {
            assert_eq!(segment.run(100, false), [0]);
        }
    }

    #[test]
    fn an_owner_that_is_cut_off_yields_as_soon_as_another_answers_and_comes_back_when_it_stops() {
        let mut segment = Segment::new(1);
        assert_eq!(segment.run(120, false), [0]);
        assert_eq!(segment.run(ASK.as_millis() as u64, true), [0; 0]);
        assert_eq!(segment.run(10_000, true), [0; 0]);
        assert!(segment.questions <= 10, "{}", segment.questions);
        assert_eq!(segment.run(1200, false), [0]);
    }

    #[test]
    fn the_last_host_takes_what_nobody_answers_for() {
        let mut segment = Segment::new(2);
        segment.run(1000, false);
        segment.hosts[0].set(segment.now, &BTreeMap::new());
        segment.hosts.remove(0);
        assert_eq!(segment.run(1200, false), [0]);
    }

    #[test]
    fn two_that_take_an_address_at_once_end_with_one_of_them() {
        let mut segment = Segment::new(3);
        segment.hosts.remove(0);
        segment.run(5000, false);
        for _ in 0..100 {
            assert_eq!(segment.run(100, false).len(), 1);
        }
    }

    #[test]
    fn an_address_that_is_kept_is_asked_about_rarely_in_the_end() {
        let mut segment = Segment::new(1);
        segment.run(2000, false);
        segment.run(10_000, false);
        assert!((9..=11).contains(&segment.questions), "{}", segment.questions);
        segment.hosts[0].set(segment.now, &BTreeMap::new());
        assert_eq!((segment.hosts[0].deadline(), segment.hosts[0].withheld().len()), (None, 0));
    }
}
