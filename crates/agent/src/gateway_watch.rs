//! Whether the gateways of the external networks can be reached, found out within some hundred milliseconds, sans
//! IO.
//!
//! For hosts that others use as gateways. The wire is looked at every [`LOOK`]: frames that came in since the last
//! look say that the segment is there, and the gateway is asked (ARP to its MAC alone) once a second only. With
//! nothing coming in it is asked every [`IDLE`], and a question without an answer is repeated every [`RETRY`]:
//! after three it is silent. While frames do come in it gets ten, further apart: a router that polices ARP is no
//! cut. Silent ones are asked by broadcast, as their MAC may have changed, and are believed again after three
//! answers in a row.

use crate::neighbors::{Probe, Target};
use model::Mac;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two looks at whether frames came in.
const LOOK: Duration = Duration::from_millis(40);
/// The age of an answer at which a gateway is asked again, if nothing comes in; and if something does.
const IDLE: Duration = Duration::from_millis(80);
const BUSY: Duration = Duration::from_secs(1);
/// Between questions without an answer, with nothing coming in; and with something.
const RETRY: Duration = Duration::from_millis(15);
const BUSY_RETRY: Duration = Duration::from_millis(100);
/// Questions without an answer after which a gateway is silent, likewise.
const UNANSWERED_MAX: u32 = 3;
const BUSY_UNANSWERED_MAX: u32 = 10;
/// Between questions to a silent gateway.
const SILENT_RETRY: Duration = Duration::from_millis(250);
/// Answers in a row that make a silent gateway one that is there.
const ANSWERS_TO_TRUST: u32 = 3;

#[derive(Debug)]
struct Entry {
    mac: Mac,
    silent: bool,
    /// Questions since the last answer; answers since it was silent.
    unanswered: u32,
    answers: u32,
    /// Frames came in since the last look, or since the first question without an answer.
    busy: bool,
    answered: Instant,
    due: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct GatewayWatch {
    entries: BTreeMap<Target, Entry>,
    /// Frames from the uplinks without ARP answers, at the last look.
    frames: u64,
    /// ARP messages heard, which are among the frames.
    messages: u64,
}

impl GatewayWatch {
    /// The gateways to watch. A new one is taken to be there.
    pub(crate) fn set(&mut self, now: Instant, gateways: &BTreeMap<Target, Mac>) {
        self.entries.retain(|target, _| gateways.contains_key(target));
        for (target, mac) in gateways {
            let fresh = Entry {
                mac: *mac,
                silent: false,
                unanswered: 0,
                answers: 0,
                busy: false,
                answered: now,
                due: now + LOOK,
            };
            self.entries.entry(*target).or_insert(fresh).mac = *mac;
        }
    }

    /// Somebody said who has an address.
    pub(crate) fn heard(&mut self, now: Instant, target: Target) {
        self.messages += 1;
        let Some(entry) = self.entries.get_mut(&target) else { return };
        entry.unanswered = 0;
        entry.answered = now;
        entry.answers += 1;
        entry.silent &= entry.answers < ANSWERS_TO_TRUST;
        entry.due = now + LOOK;
    }

    /// The questions that are due. `frames`: how many came in on the uplinks so far.
    pub(crate) fn poll(&mut self, now: Instant, frames: u64) -> Vec<Probe> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let frames = frames.saturating_sub(self.messages);
        let busy = frames > self.frames;
        self.frames = frames;
        let entries = self.entries.iter_mut();
        let due = entries.filter_map(|(target, entry)| {
            let unicast = |entry: &Entry| Some(entry.mac).filter(|_| !entry.silent);
            entry.poll(now, busy).then(|| Probe { vni: target.0, address: target.1, unicast: unicast(entry) })
        });
        due.collect()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.due).min()
    }

    pub(crate) fn has_silent(&self) -> bool {
        self.entries.values().any(|entry| entry.silent)
    }
}

impl Entry {
    /// True: it is to be asked now. `busy`: frames came in since the last look.
    fn poll(&mut self, now: Instant, busy: bool) -> bool {
        self.busy |= busy;
        if now < self.due {
            return false;
        }
        if self.unanswered == 0 && !self.silent {
            let age_max = if self.busy { BUSY } else { IDLE };
            // What came in before the question says nothing about why it has no answer.
            self.busy = false;
            if now < self.answered + age_max {
                self.due = now + LOOK;
                return false;
            }
        }
        let (retry, unanswered_max) =
            if self.busy { (BUSY_RETRY, BUSY_UNANSWERED_MAX) } else { (RETRY, UNANSWERED_MAX) };
        self.silent |= self.unanswered >= unanswered_max;
        if self.unanswered > 0 && self.silent {
            self.answers = 0;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.due = now + if self.silent { SILENT_RETRY } else { retry };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Vni;
    use std::net::Ipv4Addr;

    const MAC: Mac = Mac([2, 0, 0, 0, 7, 1]);
    const MS: Duration = Duration::from_millis(1);

    fn target() -> Target {
        (Vni::new(201).unwrap(), Ipv4Addr::new(172, 22, 7, 1).into())
    }

    /// A gateway that answers at once or not at all, and other traffic.
    struct Wire {
        watch: GatewayWatch,
        start: Instant,
        now: Instant,
        frames: u64,
        /// Milliseconds between frames of others; 0: none.
        traffic_ms: u64,
        answers: bool,
        /// When something was asked, and when it changed whether it is silent, in milliseconds.
        asked: Vec<u64>,
        changed: Vec<u64>,
        broadcasts: usize,
    }

    impl Wire {
        fn new(traffic_ms: u64) -> Self {
            let (mut watch, now) = (GatewayWatch::default(), Instant::now());
            watch.set(now, &BTreeMap::from([(target(), MAC)]));
            Self {
                watch,
                start: now,
                now,
                frames: 0,
                traffic_ms,
                answers: true,
                asked: Vec::new(),
                changed: Vec::new(),
                broadcasts: 0,
            }
        }

        /// Forgets what was, and runs.
        fn run(&mut self, span_ms: u64) {
            (self.asked, self.changed, self.broadcasts) = (Vec::new(), Vec::new(), 0);
            let (from, mut silent) = (self.now, self.watch.has_silent());
            for ms in 0..span_ms {
                self.now = from + ms as u32 * MS;
                let at = (self.now - self.start).as_millis() as u64;
                self.frames += u64::from(self.traffic_ms != 0 && at.is_multiple_of(self.traffic_ms.max(1)));
                for probe in self.watch.poll(self.now, self.frames) {
                    assert_eq!((probe.vni, probe.address), target());
                    self.asked.push(ms);
                    self.broadcasts += usize::from(probe.unicast.is_none());
                    if self.answers {
                        self.frames += 1;
                        self.watch.heard(self.now, target());
                    }
                }
                if self.watch.has_silent() != silent {
                    silent = !silent;
                    self.changed.push(ms);
                }
            }
            self.now = from + span_ms as u32 * MS;
        }
    }

    #[test]
    fn a_cut_segment_is_noticed_within_two_hundred_milliseconds_whenever_it_comes() {
        for traffic_ms in [0, 1, 30, 300] {
            let mut sum = 0;
            for cut_ms in 2000..2120 {
                let mut wire = Wire::new(traffic_ms);
                wire.run(cut_ms);
                assert!(wire.changed.is_empty(), "not before");
                (wire.answers, wire.traffic_ms) = (false, 0);
                wire.run(1000);
                assert!(
                    wire.changed.len() == 1 && wire.changed[0] <= 210,
                    "{traffic_ms}: {:?}",
                    wire.changed
                );
                sum += wire.changed[0];
            }
            assert!(sum / 120 <= 120, "{traffic_ms}: {} ms on average", sum / 120);
        }
    }

    #[test]
    fn a_gateway_is_asked_rarely_while_frames_come_in() {
        let mut wire = Wire::new(0);
        wire.run(10_000);
        assert!((70..=130).contains(&wire.asked.len()), "idle: {}", wire.asked.len());
        let mut wire = Wire::new(10);
        wire.run(10_000);
        assert!((9..=11).contains(&wire.asked.len()), "busy: {}", wire.asked.len());
        assert_eq!(wire.broadcasts, 0);
    }

    #[test]
    fn a_gateway_that_is_gone_is_noticed_in_spite_of_other_traffic_but_not_in_haste() {
        let mut wire = Wire::new(10);
        wire.run(2000);
        wire.answers = false;
        wire.run(5000);
        assert!(wire.changed.len() == 1 && (900..=2500).contains(&wire.changed[0]), "{:?}", wire.changed);
    }

    #[test]
    fn a_silent_gateway_is_asked_for_by_broadcast_and_believed_after_three_answers() {
        let mut wire = Wire::new(0);
        wire.run(1000);
        wire.answers = false;
        wire.run(3000);
        assert!((10..=15).contains(&wire.broadcasts), "{}", wire.broadcasts);
        wire.answers = true;
        wire.run(1000);
        assert!(wire.changed.len() == 1 && (80..=450).contains(&wire.changed[0]), "{:?}", wire.changed);
        assert!(!wire.watch.has_silent());
    }

    #[test]
    fn two_lost_questions_are_no_silence() {
        let mut wire = Wire::new(0);
        wire.run(1000);
        wire.answers = false;
        while wire.watch.entries[&target()].unanswered < 2 {
            wire.run(1);
        }
        wire.answers = true;
        wire.run(2000);
        assert!(wire.changed.is_empty());
        assert!(!wire.watch.has_silent());
    }
}
