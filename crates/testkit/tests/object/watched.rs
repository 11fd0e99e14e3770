//! Repeats on the programs that tell of packets what a world did: they do the same, and what they tell is what happened.

use crate::object::replay_on;
use dataplane::Captured;
use dataplane::testrun::{Outcome, TestRun};
use pipeline::Verdict;
use pipeline::capture::{Slot, Slots, verdict_words};
use pipeline::tunnel::OUTER_LEN;
use testkit::World;
use testkit::world::{Entry, Step};

/// Replays everything that happened, host by host.
pub(crate) fn replay(world: &World) {
    for host in 0..world.hosts.len() {
        if world.steps.iter().any(|step| step.host == host) {
            let opened = TestRun::open_watching(&world.hosts[host].programmed[0]);
            let (run, mut reader) = opened.expect("the object loads");
            let mut slots = Slots::default();
            slots[0] = Slot { until_ns: u64::MAX, ..Slot::default() };
            reader.want(&slots).expect("slots");
            replay_on(world, host, run, &mut |step, outcome| {
                compare(step, outcome, &reader.by_ref().collect::<Vec<_>>());
            });
        }
    }
}

/// What is told of a step is what happened in it.
fn compare(step: &Step, outcome: &Outcome, told: &[Captured]) {
    let context = || format!("{:?}\n  in {:02x?}\n{told:?}", step.entry, step.input.bytes);
    let sent =
        matches!(outcome.verdict, Verdict::Port { .. } | Verdict::Uplink { .. } | Verdict::Tunnel { .. });
    // The outer frame is none of a walk's; what is no tunnel packet is not walked at all.
    if matches!(step.entry, Entry::Underlay) && (outcome.verdict == Verdict::Pass || told.is_empty()) {
        return;
    }
    assert_eq!(told.len(), 1 + usize::from(sent), "{}", context());
    for captured in told {
        assert_eq!(
            (captured.head.verdict, captured.head.detail),
            verdict_words(outcome.verdict),
            "{}",
            context()
        );
    }
    if !matches!(step.entry, Entry::Underlay) {
        assert_eq!(told[0].frame, step.input.bytes, "{}", context());
    }
    if sent {
        let outer = if matches!(outcome.verdict, Verdict::Tunnel { .. }) { OUTER_LEN as usize } else { 0 };
        assert_eq!(told[1].frame, outcome.frame[outer..], "{}", context());
    }
}
