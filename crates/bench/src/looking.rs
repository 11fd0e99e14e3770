//! What looking on costs: packets of a session that the program behind a port handles in a second, timed by the kernel
//! (`BPF_PROG_TEST_RUN`) and so free of everything around it. Before anybody captured, while somebody does, and after:
//! then they must be as fast as if nobody ever had.

use crate::figure::Target;
use crate::overlay::PINS;
use crate::report::Row;
use anyhow::Context as _;
use dataplane::testrun::{Arrival, TestRun, a_to_b, two_ports};
use dataplane::{CaptureReader, Dataplane, Settings, Sizes, Watching};
use pipeline::capture::{End, Slot, Slots};
use std::path::Path;

/// Name by which `--figure` chooses everything here.
pub(crate) const FIGURE: &str = "looking";
/// Packets of one measurement, and measurements of which the best counts: what is slower was interrupted.
const PACKETS: u32 = 20_000;
const MEASUREMENTS: u32 = 7;
const SPEED_TARGET: f64 = 0.98;

/// Packets a second, by round.
#[derive(Debug, Default)]
struct Speeds {
    before: Vec<f64>,
    /// Somebody looks on, at others.
    past: Vec<f64>,
    /// Told of each packet, into a ring that is full.
    told: Vec<f64>,
    after: Vec<f64>,
}

/// Each figure once in every round.
pub(crate) fn measure(rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut speeds = Speeds::default();
    for round in 0..rounds {
        measure_round(&mut speeds).with_context(|| format!("round {round} of {FIGURE}"))?;
    }
    let Speeds { before, past, told, after } = &speeds;
    let row = |name: &str, ours: &[f64], target| {
        Row::compared((name, "veth", "1/s"), ours, ("before a capture", before), target)
    };
    let rows = [
        row("looking_off", after, Some(Target::AtLeast(SPEED_TARGET))),
        row("looking_at_others", past, None),
        row("looking_at_all", told, None),
    ];
    Ok(rows.into_iter().flatten().collect())
}

fn measure_round(speeds: &mut Speeds) -> anyhow::Result<()> {
    let settings = Settings { pin_dir: Path::new(PINS).join(FIGURE), sizes: Sizes::SMALL };
    let mut run = TestRun::of(Dataplane::open(&settings)?)?;
    run.dataplane.apply(&two_ports(5, 6))?;
    speeds.before.push(speed(&mut run)?);
    let (watching, reader) = Watching::load(&settings)?;
    run.dataplane.exchange_programs(Some(watching))?;
    let nobody = End { address: u32::MAX, address_mask: u32::MAX, ..End::default() };
    want(&reader, Slot { ends: [nobody, End::default()], ..Slot::default() })?;
    speeds.past.push(speed(&mut run)?);
    want(&reader, Slot::default())?;
    speeds.told.push(speed(&mut run)?);
    run.dataplane.exchange_programs(None)?;
    speeds.after.push(speed(&mut run)?);
    Ok(())
}

fn want(reader: &CaptureReader, slot: Slot) -> anyhow::Result<()> {
    let mut slots = Slots::default();
    slots[0] = Slot { until_ns: u64::MAX, ..slot };
    Ok(reader.want(&slots)?)
}

fn speed(run: &mut TestRun) -> anyhow::Result<f64> {
    let (arrival, frame) = (Arrival::Port { ifindex: 5 }, a_to_b(1));
    let mut best = f64::INFINITY;
    for _ in 0..MEASUREMENTS {
        best = best.min(run.time(arrival, &frame, PACKETS)?.as_secs_f64());
    }
    eprintln!("  {:24} {:18} {:12.1} ns", FIGURE, "nanboku", best * 1e9);
    Ok(1.0 / best)
}
