//! Bounded fuzzing with libFuzzer.
//!
//! The targets live in `fuzz/`, a workspace of its own. They need no nightly compiler and no extra tool: the
//! coverage instrumentation is a pass of LLVM that stable rustc passes through, and nothing here is unsafe, so
//! no sanitizer is wanted. A crash leaves its input in `fuzz/artifacts/TARGET`; once fixed, the input becomes
//! `crates/*/tests/resources/*.bin`, which an ordinary test replays for ever.

use crate::steps::Outcome;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const HOST: &str = "x86_64-unknown-linux-gnu";
/// Bytes of the largest input: a frame of the largest MTU that the tests use, and the choices before it.
const INPUT_MAX: u32 = 2048;
/// What `cargo fuzz` passes, without the address sanitizer: edge counters in line, and the table that lets
/// libFuzzer name them; comparisons are traced so that it can guess constants.
const RUSTFLAGS: &str = "-Dwarnings --cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

pub(crate) struct Run {
    /// All targets if none.
    pub(crate) target: Option<String>,
    /// For each target.
    pub(crate) seconds: u32,
    /// A fresh one if none.
    pub(crate) seed: Option<u32>,
}

pub(crate) fn run(root: &Path, run: &Run) -> Result<Outcome> {
    let directory = root.join("fuzz");
    let targets = targets(&directory, run.target.as_deref())?;
    build(&directory)?;
    let seed = run.seed.unwrap_or_else(fresh_seed);
    println!("fuzz: seed {seed}, {} s for each of {} targets", run.seconds, targets.len());
    let mut outcome = Outcome::default();
    for target in &targets {
        let passed = run_target(&directory, target, run.seconds, seed)?;
        outcome.add(if passed { Outcome::PASSED } else { Outcome::FAILED });
    }
    Ok(outcome)
}

/// Names of the targets: one file each.
fn targets(directory: &Path, only: Option<&str>) -> Result<Vec<String>> {
    let folder = directory.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list fuzz targets")?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    if let Some(only) = only {
        if !names.iter().any(|name| name == only) {
            bail!("no fuzz target {only}; there are: {}", names.join(", "));
        }
        names.retain(|name| name == only);
    }
    Ok(names)
}

fn build(directory: &Path) -> Result<()> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--locked", "--bins", "--target", HOST])
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("CARGO_TARGET_DIR", directory.join("target"))
        .current_dir(directory)
        .status()
        .context("run cargo build for the fuzz targets")?;
    if !status.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(())
}

fn run_target(directory: &Path, target: &str, seconds: u32, seed: u32) -> Result<bool> {
    let artifacts = directory.join("artifacts").join(target);
    fs::create_dir_all(&artifacts).with_context(|| format!("make {}", artifacts.display()))?;
    // What the run finds goes to the first directory and is not kept in the repository; the seeds are.
    let found = directory.join("target/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
    let mut command = Command::new(directory.join("target").join(HOST).join("release").join(target));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-seed={seed}"))
        .arg(format!("-max_len={INPUT_MAX}"))
        .arg("-timeout=10")
        .arg("-rss_limit_mb=1024")
        .arg("-verbosity=0")
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(found)
        .args(seeds(directory))
        .current_dir(directory);
    let output = command.output().with_context(|| format!("run fuzz target {target}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{log}");
        println!("fuzz: {target}: FAILED");
        return Ok(false);
    }
    println!("fuzz: {target}: ok, {} inputs", statistic(&log, "number_of_executed_units").unwrap_or("?"));
    Ok(true)
}

/// A figure of libFuzzer's final statistics.
fn statistic<'a>(log: &'a str, name: &str) -> Option<&'a str> {
    let mut values = log.lines().filter_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
    values.next().and_then(|value| value.strip_prefix(':')).map(str::trim)
}

/// The checked-in inputs: those that ordinary tests replay. A target ignores nothing, so all crates' are given.
fn seeds(directory: &Path) -> Vec<PathBuf> {
    ["dhcp", "packet", "pcp", "testkit"]
        .iter()
        .map(|package| directory.join("../crates").join(package).join("tests/resources"))
        .filter(|resources| resources.is_dir())
        .collect()
}

/// Never zero, which libFuzzer would replace by one of its own.
fn fresh_seed() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.subsec_nanos() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statistic_is_found() {
        let log = "noise\nstat::number_of_executed_units: 6133947\nstat::average_exec_per_sec:     1022324\n";
        assert_eq!(statistic(log, "number_of_executed_units"), Some("6133947"));
        assert_eq!(statistic(log, "average_exec_per_sec"), Some("1022324"));
        assert_eq!(statistic(log, "number_of"), None);
    }

    #[test]
    fn an_unknown_target_is_refused_with_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("fuzz_targets")).unwrap();
        for name in ["b.rs", "a.rs", "notes.txt"] {
            fs::write(folder.path().join("fuzz_targets").join(name), "").unwrap();
        }
        assert_eq!(targets(folder.path(), None).unwrap(), ["a", "b"]);
        assert_eq!(targets(folder.path(), Some("b")).unwrap(), ["b"]);
        assert_eq!(
            targets(folder.path(), Some("c")).unwrap_err().to_string(),
            "no fuzz target c; there are: a, b"
        );
    }
}
