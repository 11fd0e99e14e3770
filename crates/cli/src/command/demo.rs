//! `nanboku demo`: both scenarios, on this machine, with real packets.
//!
//! Everything is done by running this binary as a person would, so each line of the demo can be typed again. Every
//! claim is checked; the demo fails if one is not true. Labs of the demo have names of their own and are taken down at
//! the end, also after a failure or Ctrl-C.

mod dvr;
mod fvn;
mod show;

use anyhow::Context as _;
use clap::Args;
use show::Show;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Names of a host's links in a lab.
const UPLINK: &str = "uplink0";
const UNDERLAY: &str = "underlay0";

/// The name of a scenario's lab, and what shows it.
type Scenario = (&'static str, fn(&mut Show) -> anyhow::Result<()>);

/// The scenarios, in the order they are shown.
const SCENARIOS: &[Scenario] = &[(fvn::LAB, fvn::run), (dvr::LAB, dvr::run)];

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Leave both labs up at the end, to look at.
    #[arg(long)]
    keep: bool,
    /// Show one scenario only.
    #[arg(long, value_name = "NAME", value_parser = ["fvn", "dvr"])]
    only: Option<String>,
}

impl DemoArgs {
    fn scenarios(&self) -> impl Iterator<Item = &'static Scenario> {
        SCENARIOS.iter().filter(|(lab, _)| self.only.as_ref().is_none_or(|only| lab.ends_with(only.as_str())))
    }
}

pub(crate) fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    lab::check_root()?;
    let exe = std::env::current_exe().context("cannot find this program's own file")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let shown = tokio::task::spawn_blocking({
            let exe = exe.clone();
            move || show_all(&args, Show::new(exe))
        });
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        anyhow::Ok(tokio::select! {
            shown = shown => Some(shown),
            _ = tokio::signal::ctrl_c() => None,
            _ = terminate.recv() => None,
        })
    })?;
    match done {
        Some(shown) => shown.context("the demo broke off")?,
        None => {
            eprintln!("\ninterrupted; taking the labs down");
            let show = Show::new(exe);
            SCENARIOS.iter().for_each(|(lab, _)| show.clear(lab));
            // The other thread may still wait for a command; it has nothing left to show.
            std::process::exit(130)
        }
    }
}

fn show_all(args: &DemoArgs, mut show: Show) -> anyhow::Result<ExitCode> {
    println!("Every line that begins with $ is a command you can type; what follows is what it said.");
    let mut outcome = Ok(());
    for (lab, scenario) in args.scenarios() {
        show.clear(lab);
        outcome = scenario(&mut show).with_context(|| format!("scenario {lab}"));
        let failed = outcome.is_err() || !show.all_proved();
        if !args.keep {
            show.clear(lab);
        }
        if failed {
            break;
        }
    }
    show.summary();
    if args.keep {
        println!("\nStill up: {}. End with `nanboku lab down NAME`.", crate::client::labs_up().join(", "));
    }
    outcome?;
    Ok(if show.all_proved() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
