//! Repeats on the loaded object what a world did on the host build: same verdict, same bytes, same counters.
//!
//! Ports are chosen by chance, and the two builds draw different numbers. With blocks of a single port there
//! is no choice; otherwise the object is given each mapping just before the packet that made it, so that
//! everything but the choice is compared. The external network of the world must be untagged, because a test
//! run cannot deliver a frame whose tag was taken off. Time is not compared: the object has the kernel's.
//!
//! Each frame is also looked at first, by a recorded walk over the object's own tables, which is what
//! `nanboku trace` does: it must foretell the verdict, the bytes and the counters, and change nothing.

use dataplane::testrun::{Arrival as Entrance, Outcome, TestRun};
use pipeline::host::{Frame, Recorder, State};
use pipeline::verdict::{Reason, Stage, Total, counter};
use pipeline::{TunnelKey, Verdict, Work};
use std::collections::BTreeMap;
use testkit::World;
use testkit::world::{Entry, Step, UNDERLAY};

/// Counters by slot.
type Counters = BTreeMap<u32, u64>;

/// Replays everything that happened, host by host.
pub(crate) fn replay(world: &World) {
    assert_eq!(world.options.vlan, None, "a test run delivers no tags");
    for host in 0..world.hosts.len() {
        if world.steps.iter().any(|step| step.host == host) {
            replay_host(world, host);
        }
    }
}

/// Replays everything that happened on a host, on the object.
fn replay_host(world: &World, host: usize) {
    let run = TestRun::open(&world.hosts[host].programmed[0]).expect("the object loads");
    replay_on(world, host, run, &mut |_, _| {});
}

/// `after`: looks at the outcome of every step too.
pub(crate) fn replay_on(
    world: &World,
    host: usize,
    mut run: TestRun,
    after: &mut dyn FnMut(&Step, &Outcome),
) {
    let programmed = &world.hosts[host].programmed;
    let mut generation = 1;
    let mut foretold = Counters::new();
    for (number, step) in world.steps.iter().filter(|step| step.host == host).enumerate() {
        while generation < step.generation {
            run.dataplane.apply(&programmed[generation]).expect("tables");
            generation += 1;
        }
        let entrance = match step.entry {
            Entry::Port { ifindex } => Entrance::Port { ifindex },
            Entry::Uplink { ifindex } => Entrance::Uplink { ifindex },
            Entry::Underlay => Entrance::Underlay { ifindex: UNDERLAY },
            Entry::Tunnel { vni, vtep } => Entrance::Tunnel { vni, vtep: vtep.octets() },
            Entry::Agent { origin } => Entrance::Agent(origin),
        };
        if !world.options.single_port_blocks {
            for (key, mapping) in &step.made {
                run.insert_mapping(key, mapping).expect("room for a mapping");
            }
        }
        let context =
            || format!("host {host}, step {number}: {:?}\n  in {:02x?}", step.entry, step.input.bytes);
        let (looked_at, looked_at_frame) = look(&run, step, number as u64, &mut foretold);
        let outcome = run.run(entrance, &step.input.bytes).expect("a test run");
        after(step, &outcome);
        assert_eq!(unlimited(looked_at), unlimited(outcome.verdict), "looked at: {}", context());
        assert_eq!(unlimited(outcome.verdict), unlimited(step.verdict), "{}", context());
        let sent =
            matches!(outcome.verdict, Verdict::Port { .. } | Verdict::Uplink { .. } | Verdict::Tunnel { .. });
        if sent {
            assert_eq!(outcome.frame, step.output.bytes, "{}\n{:?}", context(), step.verdict);
            assert_eq!(looked_at_frame.bytes, outcome.frame, "looked at: {}", context());
        }
    }
    compare_counters(world, host, &run);
    compare_foretold(host, &foretold, &run);
}

/// What a walk that changes nothing says of a step; its counters are added to `counters`.
fn look(run: &TestRun, step: &Step, seed: u64, counters: &mut Counters) -> (Verdict, Frame) {
    let view = run.dataplane.view(seed);
    let (mut frame, mut work) = (step.input.clone(), Box::new(Work::zeroed()));
    let recorder = Recorder::new(&view, State::default(), false);
    let verdict = match step.entry {
        Entry::Port { ifindex } => pipeline::from_port(&mut frame, &recorder, &mut work, ifindex),
        Entry::Underlay => pipeline::from_underlay(&mut frame, &recorder, &mut work),
        Entry::Tunnel { vni, vtep } => {
            let key = TunnelKey { vni, vtep: vtep.into(), lone: false };
            pipeline::from_tunnel(&mut frame, &recorder, &mut work, key)
        }
        Entry::Uplink { ifindex } => pipeline::from_uplink(&mut frame, &recorder, &mut work, ifindex),
        Entry::Agent { origin } => pipeline::from_agent(&mut frame, &recorder, &mut work, &origin),
    };
    for (slot, packets) in recorder.counters() {
        *counters.entry(slot).or_default() += packets;
    }
    drop(recorder);
    view.finish().expect("lookups");
    (verdict, frame)
}

fn compare_foretold(host: usize, foretold: &Counters, run: &TestRun) {
    let counters = run.dataplane.counters().expect("counters");
    let told = |slot: u32| foretold.get(&slot).copied().unwrap_or(0);
    for total in Total::ALL.iter().filter(|total| !matches!(total, Total::Punted | Total::Dropped)) {
        let slot = counter::total(*total);
        assert_eq!(told(slot), counters.total(*total), "host {host}: looked at: {}", total.name());
    }
    let reasons = || Reason::ALL.iter().filter(|reason| **reason != Reason::PuntLimited);
    for (stage, reason) in Stage::ALL.iter().flat_map(|stage| reasons().map(|reason| (*stage, *reason))) {
        let slot = counter::drop(stage, reason);
        let names = (stage.name(), reason.name());
        assert_eq!(told(slot), counters.drop(stage, reason), "host {host}: looked at: {names:?}");
    }
}

/// The slow path's limit depends on the clock, which the two builds do not share: a punt that came too soon
/// counts as a punt.
fn unlimited(verdict: Verdict) -> Option<Verdict> {
    match verdict {
        Verdict::Punt(_) | Verdict::Drop(_, Reason::PuntLimited) => None,
        other => Some(other),
    }
}

fn compare_counters(world: &World, host: usize, run: &TestRun) {
    let (tables, counters) = (&world.hosts[host].tables, run.dataplane.counters().expect("counters"));
    let consumed = counters.total(Total::Punted) + counters.total(Total::Dropped);
    assert_eq!(consumed, tables.total(Total::Punted) + tables.total(Total::Dropped), "host {host}");
    for total in Total::ALL.iter().filter(|t| !matches!(t, Total::Punted | Total::Dropped)) {
        assert_eq!(counters.total(*total), tables.total(*total), "host {host}: {}", total.name());
    }
    let reasons = || Reason::ALL.iter().filter(|reason| **reason != Reason::PuntLimited);
    for (stage, reason) in Stage::ALL.iter().flat_map(|s| reasons().map(|r| (*s, *r))) {
        let (object, host_build) =
            (counters.drop(stage, reason), tables.counter(counter::drop(stage, reason)));
        assert_eq!(object, host_build, "host {host}: {} {}", stage.name(), reason.name());
    }
    let sessions = run.dataplane.sessions().count();
    assert_eq!(sessions, tables.sessions.borrow().len(), "host {host}: sessions");
}
