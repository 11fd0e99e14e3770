//! `nanboku-bench`: Nanboku against plain routing, bridge + VXLAN and nftables, on the same wires, in one run.
//!
//! Absolute numbers of one machine say little, and those of a shared machine nothing: what counts is the
//! ratio. So the contestants take turns within every round, in an order that changes from round to round,
//! and the ratio is the median of the rounds' ratios.

mod api;
mod awake;
mod figure;
mod footprint;
mod looking;
mod overlay;
mod report;
mod scenario;
mod topology;
mod traffic;
mod variant;

use anyhow::Context as _;
use awake::Awake;
use clap::Parser;
use figure::{FIGURES, Figure};
use footprint::Lab;
use report::Row;
use std::collections::BTreeMap;
use std::fs::File;
use std::process::ExitCode;
use std::time::Duration;
use topology::{Kind, Underlay};
use variant::{Subject, Variants};

/// Held by a running benchmark: two at a time would measure each other and clean each other away.
const LOCK: &str = "/run/nanboku-bench.lock";

#[derive(Parser)]
#[command(
    name = "nanboku-bench",
    about = "Compares Nanboku with plain routing, bridge + VXLAN and nftables (root)",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// Rounds; every figure is measured once in each.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of one measurement.
    #[arg(long, default_value_t = 0.4, value_parser = seconds)]
    seconds: f64,
    /// Only figures whose name begins so; `looking` for what captures cost, `agent` for memory and plug time. May be
    /// given several times.
    #[arg(long)]
    figure: Vec<String>,
    /// Only VMs connected so.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only this contestant, for profiling; there is nothing to compare then.
    #[arg(long, value_enum)]
    subject: Option<Subject>,
    /// Lets processors sleep when they have nothing to do.
    #[arg(long)]
    let_sleep: bool,
    /// Fails if a target is missed.
    #[arg(long)]
    strict: bool,
}

/// What is not about packets.
#[derive(clap::Subcommand)]
enum Other {
    /// How fast the API is, with durable commits, on one core. Needs no root.
    Api(api::ApiArguments),
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=60.0).contains(&value) { Ok(value) } else { Err("from 0.1 to 60".to_owned()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let passed = match &arguments.other {
        Some(Other::Api(arguments)) => api::run(arguments),
        None => run(&arguments).map(|rows| !arguments.strict || rows.iter().all(|row| row.ok != Some(false))),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("nanboku-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<Vec<Row>> {
    let lock = File::create(LOCK).with_context(|| format!("cannot write {LOCK}; run this as root"))?;
    lock.try_lock().map_err(|_| anyhow::anyhow!("another benchmark is running ({LOCK})"))?;
    clean_up();
    clean_up_on_signal()?;
    let _cleaner = Cleaner;
    let figures: Vec<&Figure> = FIGURES.iter().filter(|figure| is_wanted(arguments, figure.name)).collect();
    let samples = measure_all(arguments, &figures)?;
    let mut rows = compare(&figures, &samples);
    if is_wanted(arguments, looking::FIGURE) {
        rows.extend(looking::measure(arguments.rounds)?);
    }
    print_lines(&rows)?;
    let footprint = measure_footprint(arguments);
    if let Ok(more) = &footprint {
        print_lines(more)?;
        rows.extend_from_slice(more);
    }
    println!("\n{}", report::table(&rows));
    footprint.map(|_| rows)
}

fn print_lines(rows: &[Row]) -> anyhow::Result<()> {
    for row in rows {
        println!("{}", serde_json::to_string(row)?);
    }
    Ok(())
}

fn measure_footprint(arguments: &Arguments) -> anyhow::Result<Vec<Row>> {
    if !is_wanted(arguments, footprint::FIGURE) {
        return Ok(Vec::new());
    }
    match Lab::up()? {
        Some(lab) => lab.measure(arguments.rounds),
        None => Ok(Vec::new()),
    }
}

fn is_wanted(arguments: &Arguments, name: &str) -> bool {
    arguments.figure.is_empty() || arguments.figure.iter().any(|prefix| name.starts_with(prefix.as_str()))
}

fn clean_up() {
    footprint::remove_lab();
    topology::remove_all();
    overlay::remove_pins();
}

struct Cleaner;

impl Drop for Cleaner {
    fn drop(&mut self) {
        clean_up();
    }
}

/// A thread that waits for Ctrl-C and the like, which every other thread has blocked.
fn clean_up_on_signal() -> anyhow::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            clean_up();
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

/// Values by figure, kind of VM and subject, one per round.
type Samples = BTreeMap<(&'static str, Kind, Subject), Vec<f64>>;

fn measure_all(arguments: &Arguments, figures: &[&Figure]) -> anyhow::Result<Samples> {
    let window = Duration::from_secs_f64(arguments.seconds);
    if figures.is_empty() {
        return Ok(Samples::new());
    }
    let mut contestants = Kind::ALL
        .into_iter()
        .filter(|kind| arguments.kind.is_none_or(|wanted| wanted == *kind))
        .map(|kind| Ok((kind, Variants::build(kind)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let is_measured = |subject: &Subject| arguments.subject.is_none_or(|wanted| wanted == *subject);
    let _awake = (!arguments.let_sleep).then(Awake::keep).transpose()?;
    let mut samples = Samples::new();
    for round in 0..arguments.rounds as usize {
        for (kind, variants) in &mut contestants {
            eprintln!("round {} of {}, {} VMs", round + 1, arguments.rounds, kind.name());
            let mut underlay = Underlay::Offloaded;
            for figure in figures {
                if figure.underlay != underlay {
                    underlay = figure.underlay;
                    variants.set_underlay(underlay)?;
                }
                let mut subjects: Vec<Subject> = figure.subjects().filter(is_measured).collect();
                // Who is first changes with the round.
                let first = round.checked_rem(subjects.len()).unwrap_or(0);
                subjects.rotate_left(first);
                measure_in_turn(figure, variants, (&subjects, window), |subject, value| {
                    samples.entry((figure.name, *kind, subject)).or_default().push(value);
                })
                .with_context(|| format!("{} with {} VMs", figure.name, kind.name()))?;
            }
            variants.set_underlay(Underlay::Offloaded)?;
        }
    }
    Ok(samples)
}

/// Measures subjects of a figure once.
fn measure_in_turn(
    figure: &Figure,
    variants: &mut Variants,
    (subjects, window): (&[Subject], Duration),
    mut record: impl FnMut(Subject, f64),
) -> anyhow::Result<()> {
    for subject in subjects {
        let value = variants
            .measure(*subject, figure.way, |ends| figure.measure(ends, window))
            .with_context(|| subject.name().to_owned())?;
        eprintln!("  {:24} {:18} {value:12.1} {}", figure.name, subject.name(), figure.unit);
        record(*subject, value);
    }
    Ok(())
}

fn compare(figures: &[&Figure], samples: &Samples) -> Vec<Row> {
    let values = |figure: &Figure, kind, subject| {
        samples.get(&(figure.name, kind, subject)).map_or(&[][..], Vec::as_slice)
    };
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        for figure in figures {
            let ours = values(figure, kind, Subject::Nanboku);
            for baseline in figure.baselines {
                let theirs = (baseline.subject.name(), values(figure, kind, baseline.subject));
                let names = (figure.name, kind.name(), figure.unit);
                rows.extend(Row::compared(names, ours, theirs, figure.target(baseline, kind)));
            }
        }
    }
    rows
}
