//! The programs that tell of packets: what they tell of a packet is what happened to it, and only of those that are
//! wanted; they pass the verifier, take the others' place and give it back; and the programs that packets meet
//! otherwise have nothing of it.

#[expect(dead_code, reason = "every test binary uses its part")]
mod common;

use common::Pins;
use dataplane::testrun::{ADDRESS_A, ADDRESS_B, Arrival, TestRun, a_to_b, two_ports};
use dataplane::{CaptureReader, Captured, Dataplane, Settings, Sizes, Watching};
use pipeline::capture::{End, Head, Slot, Slots, verdict_words};
use pipeline::{Stage, Verdict};

/// Wants all.
fn all() -> Slot {
    Slot { until_ns: u64::MAX, ..Slot::default() }
}

fn of_host(address: [u8; 4]) -> Slot {
    let end = End { address: u32::from_ne_bytes(address), address_mask: u32::MAX, ..End::default() };
    Slot { ends: [end, End::default()], ..all() }
}

fn want(reader: &CaptureReader, wanted: impl IntoIterator<Item = (usize, Slot)>) {
    let mut slots = Slots::default();
    for (number, slot) in wanted {
        slots[number] = slot;
    }
    reader.want(&slots).expect("slots");
}

/// What was told of one packet from the port.
fn told(run: &mut TestRun, reader: &mut CaptureReader, frame: &[u8]) -> Vec<Captured> {
    let outcome = run.run(Arrival::Port { ifindex: 5 }, frame).expect("a test run");
    assert_eq!(outcome.verdict, Verdict::Port { ifindex: 6 });
    reader.collect()
}

#[test]
fn a_walk_is_told_of_at_both_its_ends() {
    let (mut run, mut reader) = TestRun::open_watching(&two_ports(5, 6)).expect("the object loads");
    let frame = a_to_b(1);
    assert!(told(&mut run, &mut reader, &frame).is_empty(), "nobody wants anything");
    want(&reader, [(3, all())]);
    let [arrived, left] = &told(&mut run, &mut reader, &frame)[..] else { panic!("two ends") };
    assert_eq!((arrived.head.point, left.head.point), (Head::ARRIVED, Head::LEFT));
    assert_eq!((&arrived.frame, &left.frame), (&frame, &frame), "switched frames stay as they are");
    assert_eq!(arrived.head.walk, left.head.walk);
    assert!(arrived.head.arrived_ns <= left.head.left_ns);
    let head = &arrived.head;
    assert_eq!((head.verdict, head.detail), verdict_words(Verdict::Port { ifindex: 6 }));
    assert_eq!((head.ingress, head.slots), (5, 1 << 3));
    assert_eq!((head.arrived_vni, head.left_vni), (100, 100));
    assert_eq!((head.before.src, head.before.dst), (ADDRESS_A, ADDRESS_B));
    assert_eq!(head.before.transport, head.after.transport);
    assert_eq!(head.stages & 1 << Stage::Output as u32, 1 << Stage::Output as u32);
    assert_eq!(head.frame_len as usize, frame.len());
    let [again, _] = &told(&mut run, &mut reader, &frame)[..] else { panic!("two ends") };
    assert_ne!(again.head.walk, arrived.head.walk);
    assert_eq!(reader.lost().unwrap(), 0);
}

#[test]
fn what_nobody_wants_is_not_told() {
    let (mut run, mut reader) = TestRun::open_watching(&two_ports(5, 6)).expect("the object loads");
    let frame = a_to_b(1);
    let mut slots_of = |slot: Slot| {
        want(&reader, [(0, slot)]);
        told(&mut run, &mut reader, &frame).len()
    };
    assert_eq!(slots_of(of_host(ADDRESS_B)), 2);
    assert_eq!(slots_of(of_host([9, 9, 9, 9])), 0);
    assert_eq!(slots_of(Slot { ifindex: 6, ..all() }), 2);
    assert_eq!(slots_of(Slot { ifindex: 7, ..all() }), 0);
    assert_eq!(slots_of(Slot { vnis: [7, 100, 0, 0], ..all() }), 2);
    assert_eq!(slots_of(Slot { vnis: [7, 0, 0, 0], ..all() }), 0);
    assert_eq!(slots_of(Slot { until_ns: 1, ..all() }), 0, "its time is over");
}

#[test]
fn a_full_ring_loses_records_and_says_how_many_and_a_bounded_capture_waits() {
    let (mut run, mut reader) = TestRun::open_watching(&two_ports(5, 6)).expect("the object loads");
    let frame = a_to_b(1);
    want(&reader, [(0, Slot { interval_ns: u64::MAX / 2, ..all() })]);
    for _ in 0..10 {
        run.run(Arrival::Port { ifindex: 5 }, &frame).expect("a test run");
    }
    assert_eq!(reader.by_ref().count(), 2, "one walk");
    want(&reader, [(0, all())]);
    let sent = 12_000_u64;
    run.time(Arrival::Port { ifindex: 5 }, &frame, sent as u32).expect("test runs");
    let lost = reader.lost().expect("a number");
    assert!(lost > 0, "the ring has room for fewer");
    assert_eq!(reader.count() as u64 + lost, 2 * sent);
}

#[test]
fn the_programs_are_exchanged_and_given_back() {
    let pins = Pins::new("watching");
    let settings = Settings { pin_dir: pins.0.clone(), sizes: Sizes::SMALL };
    let mut dataplane = Dataplane::open(&settings).expect("the object loads");
    let started = std::time::Instant::now();
    let (watching, reader) = Watching::load(&settings).expect("it loads over the same tables");
    println!("loaded in {} ms", started.elapsed().as_millis());
    dataplane.exchange_programs(Some(watching)).expect("exchanged");
    for (program, instructions) in dataplane.verified_instructions() {
        println!("{program}: {instructions} verified instructions");
        assert!((1..500_000).contains(&instructions), "{program}: {instructions} of the kernel's 1,000,000");
    }
    assert_eq!(reader.lost().unwrap(), 0);
    dataplane.exchange_programs(None).expect("given back");
}

/// Nanoseconds per packet of a session, by `BPF_PROG_TEST_RUN`: the best of some rounds.
fn cost_ns(run: &mut TestRun, frame: &[u8]) -> u128 {
    let arrival = Arrival::Port { ifindex: 5 };
    (0..15).map(|_| run.time(arrival, frame, 20_000).expect("test runs").as_nanos()).min().expect("rounds")
}

/// Run by hand, on a quiet machine: `cargo nextest run -p dataplane --profile ci --run-ignored only
/// --success-output final what_looking_on_costs`.
#[test]
#[ignore = "a measurement"]
fn what_looking_on_costs() {
    let frame = a_to_b(1);
    let plain = cost_ns(&mut TestRun::open(&two_ports(5, 6)).expect("the object loads"), &frame);
    let again = cost_ns(&mut TestRun::open(&two_ports(5, 6)).expect("the object loads"), &frame);
    let (mut run, mut reader) = TestRun::open_watching(&two_ports(5, 6)).expect("the object loads");
    let unwanted = cost_ns(&mut run, &frame);
    want(&reader, [(0, of_host([9, 9, 9, 9]))]);
    let other = cost_ns(&mut run, &frame);
    want(&reader, [(0, all())]);
    run.time(Arrival::Port { ifindex: 5 }, &frame, 20_000).expect("test runs");
    let full = cost_ns(&mut run, &frame);
    reader.by_ref().for_each(drop);
    println!("plain {plain} ns and {again} ns: ratio {:.3}", plain as f64 / again as f64);
    println!(
        "watching: nobody wants anything {unwanted} ns, another host's packets {other} ns, all of it into a full ring {full} ns"
    );
}
