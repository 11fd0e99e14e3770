//! `nanboku lab hostile`.

use crate::cli::Global;
use crate::output::{Format, table};
use ::lab::{Connections, Flood, Flooded, HostileOptions};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct HostileArgs {
    /// Name or file of a lab, for example of `lab up faults`; the only one that is up if not given.
    name: Option<String>,
    /// ports, fragments, spoofs, arp, mappings, or all; may be repeated.
    #[arg(long = "flood", value_name = "FLOOD", default_value = "all", value_parser = floods)]
    floods: Vec<Floods>,
    /// Of each flood.
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Frames per second of a flood.
    #[arg(long, value_name = "FRAMES", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// What the other VM begins per second of each: TCP to the outside, UDP to the outside, TCP to a VM on another host.
    #[arg(long, value_name = "COUNT", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=5000))]
    connections: u32,
}

/// What one `--flood` stands for.
#[derive(Clone, Debug)]
struct Floods(Vec<Flood>);

fn floods(text: &str) -> Result<Floods, String> {
    if text == "all" { Ok(Floods(Flood::all())) } else { Ok(Floods(vec![text.parse()?])) }
}

pub(super) fn run(args: &HostileArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let options = HostileOptions {
        lab: super::given(args.name.as_deref(), global)?,
        floods: args.floods.iter().flat_map(|floods| floods.0.iter().copied()).collect(),
        duration: Duration::from_secs(args.seconds.into()),
        rate: args.rate,
        connections: args.connections,
    };
    let format = global.output;
    let progress = |flooded: &Flooded| {
        if format == Format::Table {
            crate::command::print(&lines(flooded));
        }
    };
    let all = crate::command::block_on(::lab::hostile(&options, progress))?;
    crate::command::print(&match format {
        Format::Table => format!("\n{}", table(&HEADERS, all.iter().map(row))),
        _ => format!("{:#}\n", serde_json::to_value(&all)?),
    });
    let good = all.iter().all(|flooded| flooded.problems.is_empty());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was refused in one flood, and what was wrong with it.
fn lines(flooded: &Flooded) -> String {
    let mut lines = format!("{} by {}, {} frames", flooded.flood, flooded.attacker, flooded.sent);
    for (reason, count) in &flooded.drops {
        lines += &format!(", {} {count}", reason.trim_start_matches("drop."));
    }
    lines.push('\n');
    for problem in &flooded.problems {
        lines += &format!("  wrong: {problem}\n");
    }
    lines
}

const HEADERS: [&str; 7] =
    ["flood", "frames", "dropped", "victim", "tcp outside", "udp outside", "tcp inside"];

fn row(flooded: &Flooded) -> Vec<String> {
    let rate = |seen: &Connections| format!("{}/{}", seen.succeeded, seen.tried);
    vec![
        flooded.flood.to_string(),
        flooded.sent.to_string(),
        flooded.drops.values().sum::<u64>().to_string(),
        flooded.victim.clone(),
        rate(&flooded.outside),
        rate(&flooded.questions),
        rate(&flooded.inside),
    ]
}
