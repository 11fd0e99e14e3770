//! `nanboku-bench api`: how fast the API is, with durable commits, on one core.
//!
//! Two controllers, one whose store is almost empty and one with many ports, take turns within every round: what the
//! machine does meanwhile it does to both. Clients have the other core.

mod client;
mod load;
mod server;

use crate::figure::Target;
use crate::report::{self, Row};
use anyhow::Context as _;
use clap::Args;
use load::{Load, Work};
use server::{Access, Server, Site};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where clients run.
const CLIENT_CORE: usize = 1;
/// A start is measured this often.
const STARTS: u32 = 5;
const RSS_TARGET_MB: f64 = 400.0;
const START_TARGET_S: f64 = 2.0;
/// How much slower a full store may be.
const FULL_TARGET: f64 = 2.0;

#[derive(Args)]
pub(crate) struct ApiArguments {
    /// Ports in the full store.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    ports: u32,
    /// Rounds; every figure is measured once in each.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The program to measure [default: the nanboku beside this one].
    #[arg(long, value_name = "FILE")]
    nanboku: Option<PathBuf>,
    /// Fails if a target is missed.
    #[arg(long)]
    strict: bool,
}

/// Values by work and store, one per round.
type Samples = BTreeMap<(Work, Store), Vec<f64>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Store {
    Empty,
    Full,
}

/// Prints what it measures. True: every target that is asked for with `--strict` is met.
pub(crate) fn run(arguments: &ApiArguments) -> anyhow::Result<bool> {
    let nanboku = match &arguments.nanboku {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("nanboku"),
    };
    keep_to_core(CLIENT_CORE)?;
    let work = Directory::new()?;
    let empty = Site::new(&nanboku, work.0.join("empty"))?;
    let full = Site::new(&nanboku, work.0.join("full"))?;
    let mut rows = Vec::new();
    for access in Access::ALL {
        rows.extend(measure(arguments, access, [&empty, &full])?);
    }
    for row in &rows {
        println!("{}", serde_json::to_string(row)?);
    }
    println!("\n{}", report::table(&rows));
    Ok(!arguments.strict || rows.iter().all(|row| row.ok != Some(false)))
}

fn measure(arguments: &ApiArguments, access: Access, [empty, full]: [&Site; 2]) -> anyhow::Result<Vec<Row>> {
    if access == Access::Tls {
        empty.bootstrap()?;
        full.bootstrap()?;
    }
    let servers = [(Store::Empty, empty.start(access)?), (Store::Full, full.start(access)?)];
    let mut loads = Vec::new();
    for (store, server) in &servers {
        let ports = if *store == Store::Full { arguments.ports } else { 0 };
        eprintln!("{}: {store:?}, {ports} ports", access.name());
        loads.push((*store, Load::prepare(server, access, ports)?));
    }
    let mut samples = Samples::new();
    let mut fsync = Vec::new();
    for round in 0..arguments.rounds as usize {
        eprintln!("{}: round {} of {}", access.name(), round + 1, arguments.rounds);
        for work in Work::ALL.into_iter().filter(|work| work.with(access)) {
            fsync.push(report::median(&empty.fsync_ms(16)?).context("no rounds")?);
            // Who is first changes with the round.
            loads.rotate_left(1);
            for (store, load) in &loads {
                let value = load.measure(work).with_context(|| format!("{} {store:?}", work.name()))?;
                eprintln!("  {:24} {store:?} {value:10.3} {}", work.name(), work.unit());
                samples.entry((work, *store)).or_default().push(value);
            }
        }
    }
    let mut rows = compared(access, &samples);
    rows.extend(Row::absolute(("fsync_4k", access.name(), "ms"), &fsync, None));
    let [_, (_, server)] = servers;
    rows.extend(footprint(access, full, server)?);
    Ok(rows)
}

fn compared(access: Access, samples: &Samples) -> Vec<Row> {
    let values = |work, store| samples.get(&(work, store)).map_or(&[][..], Vec::as_slice);
    let mut rows = Vec::new();
    for work in Work::ALL {
        let (empty, full) = (values(work, Store::Empty), values(work, Store::Full));
        rows.extend(Row::absolute((work.name(), access.name(), work.unit()), empty, work.target()));
        let bound = match work.target() {
            Some(Target::AtLeast(_)) => Target::AtLeast(1.0 / FULL_TARGET),
            _ => Target::AtMost(FULL_TARGET),
        };
        let name = format!("{}_full", work.name());
        let figure = (name.as_str(), access.name(), work.unit());
        rows.extend(Row::compared(figure, full, ("empty store", empty), Some(bound)));
    }
    rows
}

/// Memory after all that, and starts: after a stop in order and after a kill.
fn footprint(access: Access, full: &Site, server: Server) -> anyhow::Result<Vec<Row>> {
    let rss = server.rss_mb()?;
    let (mut orderly, mut killed) = (Vec::new(), Vec::new());
    let mut server = server;
    for _ in 0..STARTS {
        server.stop()?;
        server = full.start(access)?;
        orderly.push(server.started.as_secs_f64());
        drop(server);
        server = full.start(access)?;
        killed.push(server.started.as_secs_f64());
    }
    let started = Some(Target::AtMost(START_TARGET_S));
    let rows = [
        Row::absolute(("rss_full", access.name(), "MB"), &[rss], Some(Target::AtMost(RSS_TARGET_MB))),
        Row::absolute(("start_full", access.name(), "s"), &orderly, started),
        Row::absolute(("start_full_after_kill", access.name(), "s"), &killed, started),
    ];
    Ok(rows.into_iter().flatten().collect())
}

fn keep_to_core(core: usize) -> anyhow::Result<()> {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut cores = CpuSet::new();
    cores.set(core)?;
    let moved = sched_setaffinity(nix::unistd::Pid::from_raw(0), &cores);
    moved.context("this needs two cores: one for the controllers, one for the clients")
}

/// Gone with all its files when dropped. On the disk that counts: `/tmp` may be memory, this is beside the program.
struct Directory(PathBuf);

impl Directory {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::current_exe()?.with_file_name(format!("bench-api-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}
