//! `nanboku lab fault`.

use crate::cli::Global;
use crate::output::{Format, table};
use ::lab::{Fault, FaultOptions, FaultReport, FaultSummary, Limits, Repetition};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct FaultArgs {
    /// Name or file of a lab, for example of `lab up faults`; the only one that is up if not given.
    name: Option<String>,
    /// drain, kill, pause, stop-agent, cut-underlay, cut-external, return (all of these: all), mute-underlay,
    /// mute-external, split; may be repeated.
    #[arg(long = "fault", required = true, value_name = "FAULT", value_parser = faults)]
    faults: Vec<Faults>,
    /// The gateway it happens to; the one that owns the most addresses if not given.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Of each fault.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repetitions: u32,
    /// TCP sessions that are held all the time, half of them idle.
    #[arg(long, value_name = "COUNT", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    sessions: u32,
    /// Seconds that the first repetition of each fault is watched; the default is longer than the controller waits for
    /// a host that is away.
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=3600))]
    first_watch: u32,
    /// Fail for sessions that die and packets that are delivered twice only, not for outages and losses.
    #[arg(long)]
    no_limits: bool,
}

/// What one `--fault` stands for.
#[derive(Clone, Debug)]
struct Faults(Vec<Fault>);

fn faults(text: &str) -> Result<Faults, String> {
    if text == "all" { Ok(Faults(Fault::all())) } else { Ok(Faults(vec![text.parse()?])) }
}

pub(super) fn run(args: &FaultArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let options = FaultOptions {
        lab: super::given(args.name.as_deref(), global)?,
        faults: args.faults.iter().flat_map(|faults| faults.0.iter().copied()).collect(),
        host: args.host.clone(),
        repetitions: args.repetitions as usize,
        sessions: args.sessions as usize,
        first_watch: Duration::from_secs(args.first_watch.into()),
        limits: if args.no_limits { Limits::NONE } else { Limits::PROMISED },
    };
    let format = global.output;
    let progress = |repetition: &Repetition| {
        if format == Format::Table {
            crate::command::print(&line(repetition));
        }
    };
    let report = crate::command::block_on(::lab::fault(&options, progress))?;
    crate::command::print(&match format {
        Format::Table => page(&report),
        _ => format!("{:#}\n", serde_json::to_value(&report)?),
    });
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A repetition in one line.
fn line(seen: &Repetition) -> String {
    let mut line = format!(
        "{} {} {}: sessions {}/{}, outage {} ms, lost {}/{}, twice {}, announcements {}",
        seen.fault,
        seen.host,
        seen.repetition,
        seen.sessions_alive,
        seen.sessions,
        seen.outage_ms,
        seen.lost,
        seen.sent,
        seen.duplicates,
        seen.announcements,
    );
    if let Some(first) = seen.announced_ms {
        line += &format!(" (first after {first} ms)");
    }
    line += &format!(
        "; back: outage {} ms, lost {}, twice {}\n",
        seen.back_outage_ms, seen.back_lost, seen.back_duplicates
    );
    line
}

const HEADERS: [&str; 11] = [
    "fault",
    "host",
    "rounds",
    "sessions",
    "outage p50",
    "p99 ms",
    "lost",
    "twice",
    "announced",
    "back p50",
    "p99 ms",
];

fn page(report: &FaultReport) -> String {
    let mut page = format!("\n{}", table(&HEADERS, report.summary.iter().map(row)));
    for summary in &report.summary {
        for problem in &summary.problems {
            page += &format!("{}: {problem}\n", summary.fault);
        }
    }
    page
}

fn row(summary: &FaultSummary) -> Vec<String> {
    vec![
        summary.fault.to_string(),
        summary.host.clone(),
        summary.repetitions.to_string(),
        format!("{}/{}", summary.sessions_alive, summary.sessions),
        summary.outage_p50_ms.to_string(),
        summary.outage_p99_ms.to_string(),
        format!("{}/{}", summary.lost, summary.sent),
        summary.duplicates.to_string(),
        summary.announcements.to_string(),
        summary.back_outage_p50_ms.to_string(),
        summary.back_outage_p99_ms.to_string(),
    ]
}
