//! Goal: the object passes the kernel's verifier, which also proves that it has no panic path. Method: load
//! it with private maps and run it without tables; load it as the agent does.

#[expect(dead_code, reason = "every test binary uses its part")]
mod common;

use common::Pins;
use dataplane::testrun::{Arrival, TestRun};
use dataplane::{Dataplane, Hook, Settings, Sizes};
use pipeline::table_set::TableSet;
use pipeline::{Reason, Stage, Total, Verdict};

#[test]
fn an_unprogrammed_host_forwards_nothing() {
    let mut run = TestRun::open(&TableSet::default()).expect("the object loads");
    let mut frame = [0u8; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let outcome = run.run(Arrival::Port { ifindex: 7 }, &frame).expect("test run");
    assert_eq!(outcome.verdict, Verdict::Drop(Stage::Classify, Reason::NoPort));
    assert_eq!(outcome.frame, frame);
    let counters = run.dataplane.counters().expect("counters");
    assert_eq!(counters.total(Total::InPort), 1);
    assert_eq!(counters.total(Total::Dropped), 1);
    assert_eq!(counters.drops().collect::<Vec<_>>(), [(Stage::Classify, Reason::NoPort, 1)]);
}

#[test]
fn every_program_is_small_enough_for_the_verifier() {
    let pins = Pins::new("verifier");
    let settings = Settings { pin_dir: pins.0.clone(), sizes: Sizes::default() };
    let mut dataplane = Dataplane::open(&settings).expect("the object loads");
    let programs = dataplane.verified_instructions();
    assert_eq!(programs.len(), Hook::ALL.len() + 1, "and the one that the agent runs");
    for (program, instructions) in programs {
        println!("{program}: {instructions} verified instructions");
        assert!((1..100_000).contains(&instructions), "{program}: {instructions} of the kernel's 1,000,000");
    }
}
