//! `cargo xtask`: the project's own checks and its test run.
//!
//! What this is: `tidy` (rules of style and architecture that no compiler checks), `test` (every check and
//! test there is, with one summary line), `fuzz` (bounded runs of the fuzz targets), `nat-compliance` (the
//! table of what the NAT RFCs ask for) and `debugging-doc` (the outputs in docs/debugging.md). What this is
//! not: it builds nothing that is shipped; the eBPF object is built by `dataplane`'s build script.

mod compliance;
mod debugging;
mod fuzz;
mod steps;
mod tidy;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Nanboku's own checks")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Rules of style and architecture: sizes, directions between crates, orphans, unsafe.
    Tidy,
    /// Writes docs/nat-compliance.md from the list of requirements and the tests named after them.
    NatCompliance,
    /// Runs the commands in docs/debugging.md in labs and writes down what they say; needs root and a debug build.
    DebuggingDoc {
        /// Compares instead of writing; fails if the document is stale.
        #[arg(long)]
        check: bool,
    },
    /// Every check and test; the last line says how many passed and failed.
    Test {
        /// Seconds for each fuzz target.
        #[arg(long, default_value_t = 10)]
        fuzz_seconds: u32,
        /// Only these steps.
        #[arg(long, value_delimiter = ',')]
        only: Vec<steps::Step>,
    },
    /// Runs fuzz targets for a bounded time; a crash leaves its input in fuzz/artifacts.
    Fuzz {
        /// Only this target.
        target: Option<String>,
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Repeats a run; a fresh one is chosen and printed otherwise.
        #[arg(long)]
        seed: Option<u32>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes, without a backtrace: what failed is in the lines above.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let root = root()?;
    match command {
        Command::Tidy => {
            let report = tidy::run(&root)?;
            report.print();
            if !report.problems.is_empty() {
                bail!("tidy found problems");
            }
            Ok(())
        }
        Command::NatCompliance => compliance::write(&root),
        Command::DebuggingDoc { check: false } => debugging::write(&root),
        Command::DebuggingDoc { check: true } => {
            let differences = debugging::check(&root)?;
            differences.iter().for_each(|difference| println!("{difference}"));
            if !differences.is_empty() {
                bail!("docs/debugging.md is stale; cargo xtask debugging-doc writes it anew");
            }
            Ok(())
        }
        Command::Test { fuzz_seconds, only } => steps::run(&root, &only, fuzz_seconds),
        Command::Fuzz { target, seconds, seed } => {
            let outcome = fuzz::run(&root, &fuzz::Run { target, seconds, seed })?;
            println!("{} passed, {} failed", outcome.passed, outcome.failed);
            if outcome.failed > 0 {
                bail!("{} fuzz targets failed", outcome.failed);
            }
            Ok(())
        }
    }
}

/// The directory of the workspace's manifest.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_owned).context("xtask lies in no directory")
}
