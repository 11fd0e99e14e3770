//! The steps of `make test`, each counted in one summary.
//!
//! A failed step does not stop the following ones: one run says everything that is wrong. The summary line
//! is also written to `target/test-summary`, so that whoever runs this can print it last.

use crate::{debugging, fuzz, tidy};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// rustfmt, on all three workspaces.
    Fmt,
    /// Our own rules.
    Tidy,
    /// Licences, bans and sources of dependencies.
    Deny,
    /// Lints; warnings are errors.
    Clippy,
    /// Unit, property and scenario tests.
    Unit,
    /// Tempest's tests of the network API, which `scripts/setup --test` installed.
    Tempest,
    /// Schemathesis, which `scripts/setup --test` installed, against the API.
    FuzzApi,
    /// Examples in the documentation.
    Doc,
    /// What docs/debugging.md shows, in labs.
    Debugging,
    /// Bounded fuzzing.
    Fuzz,
}

/// What a step ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Outcome {
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0 };
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1 };

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    fn of(success: bool) -> Self {
        if success { Self::PASSED } else { Self::FAILED }
    }
}

/// Runs `only`, or everything when it is empty. An error when anything failed.
pub(crate) fn run(root: &Path, only: &[Step], fuzz_seconds: u32) -> Result<()> {
    let mut total = Outcome::default();
    let mut failed_steps = Vec::new();
    for step in Step::value_variants() {
        if !only.is_empty() && !only.contains(step) {
            continue;
        }
        println!("== {step:?}");
        let started = Instant::now();
        let outcome = run_step(root, *step, fuzz_seconds).unwrap_or_else(|error| {
            eprintln!("{step:?}: {error:#}");
            Outcome::FAILED
        });
        if outcome.failed > 0 {
            failed_steps.push(format!("{step:?}"));
        }
        println!(
            "== {step:?}: {} passed, {} failed, {} s",
            outcome.passed,
            outcome.failed,
            started.elapsed().as_secs()
        );
        total.add(outcome);
    }
    let summary = format!("{} passed, {} failed", total.passed, total.failed);
    fs::create_dir_all(root.join("target")).context("make target/")?;
    fs::write(root.join("target/test-summary"), format!("{summary}\n")).context("write the summary")?;
    if total.failed > 0 || total.passed == 0 {
        println!("failed: {}", failed_steps.join(", "));
        println!("{summary}");
        bail!("not everything passed");
    }
    println!("{summary}");
    Ok(())
}

fn run_step(root: &Path, step: Step, fuzz_seconds: u32) -> Result<Outcome> {
    match step {
        Step::Fmt => format(root),
        Step::Tidy => {
            let report = tidy::run(root)?;
            report.print();
            Ok(Outcome::of(report.problems.is_empty()))
        }
        Step::Deny => {
            cargo(root, &["deny", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"])
        }
        Step::Clippy => {
            cargo(root, &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-Dwarnings"])
        }
        Step::Unit => unit(root),
        Step::Tempest => python_step(root, "tempest", tempest_outcome),
        Step::FuzzApi => python_step(root, "fuzz-api", fuzz_api_outcome),
        Step::Doc => doc(root),
        Step::Debugging => debugging_doc(root),
        Step::Fuzz => fuzz::run(root, &fuzz::Run { target: None, seconds: fuzz_seconds, seed: None }),
    }
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    let status = Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .status()
        .with_context(|| format!("run cargo {}", arguments.join(" ")))?;
    Ok(Outcome::of(status.success()))
}

fn format(root: &Path) -> Result<Outcome> {
    let mut clean = cargo(root, &["fmt", "--all", "--check"])?.failed == 0;
    for other in ["ebpf/Cargo.toml", "fuzz/Cargo.toml"] {
        if root.join(other).exists() {
            clean &= cargo(root, &["fmt", "--manifest-path", other, "--check"])?.failed == 0;
        }
    }
    Ok(Outcome::of(clean))
}

/// Everything nextest runs. Counted from its JUnit report, so that the number is of tests that really ran.
fn unit(root: &Path) -> Result<Outcome> {
    let report = root.join("target/nextest/ci/junit.xml");
    if report.exists() {
        fs::remove_file(&report).context("remove the report of an earlier run")?;
    }
    let ran = cargo(root, &["nextest", "run", "--profile", "ci", "--workspace", "--all-features"])?;
    let Ok(text) = fs::read_to_string(&report) else { return Ok(Outcome::FAILED) };
    let mut outcome = junit_outcome(&text).context("read nextest's JUnit report")?;
    for name in second_tries(&text) {
        println!("passed only at the second try: {name}");
    }
    if ran.failed > 0 && outcome.failed == 0 {
        outcome.failed = 1;
    }
    Ok(outcome)
}

/// Totals of a JUnit report: the attributes of its root element.
fn junit_outcome(report: &str) -> Option<Outcome> {
    let (_, rest) = report.split_once("<testsuites ")?;
    let (element, _) = rest.split_once('>')?;
    let attribute = |name: &str| -> Option<u64> {
        let (_, value) = element.split_once(&format!("{name}=\""))?;
        value.split_once('"')?.0.parse().ok()
    };
    let failed = attribute("failures")? + attribute("errors")?;
    Some(Outcome { passed: attribute("tests")?.checked_sub(failed)?, failed })
}

/// Names of a JUnit report's tests that failed once and then passed.
fn second_tries(report: &str) -> impl Iterator<Item = &str> {
    report.split("<testcase ").skip(1).filter(|case| case.contains("<flakyFailure")).filter_map(|case| {
        let (_, rest) = case.split_once("name=\"")?;
        rest.split_once('"').map(|(name, _)| name)
    })
}

/// Runs one of `scripts/` that needs something of PyPI, which may not be there, and prints its last line; `outcome` is
/// what that says.
fn python_step(root: &Path, name: &str, outcome: fn(&str) -> Option<Outcome>) -> Result<Outcome> {
    let script = root.join("scripts").join(name);
    let run = || format!("run scripts/{name}");
    if !Command::new(&script).arg("--installed").status().with_context(run)?.success() {
        println!("{name} was skipped: scripts/setup --test installs what it needs from PyPI");
        return Ok(Outcome::default());
    }
    if cargo(root, &["build", "--quiet", "--package", "nanboku"])?.failed > 0 {
        return Ok(Outcome::FAILED);
    }
    let output = Command::new(script).stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
    let output = output.with_context(run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut outcome = outcome(&text).unwrap_or(Outcome::FAILED);
    if !output.status.success() {
        outcome.failed = outcome.failed.max(1);
    }
    if outcome.failed > 0 {
        print!("{text}");
    } else if let Some(line) = text.lines().last() {
        println!("{line}");
    }
    Ok(outcome)
}

fn debugging_doc(root: &Path) -> Result<Outcome> {
    if cargo(root, &["build", "--quiet", "--package", "nanboku"])?.failed > 0 {
        return Ok(Outcome::FAILED);
    }
    let differences = debugging::check(root)?;
    differences.iter().for_each(|difference| println!("docs/debugging.md: {difference}"));
    Ok(Outcome::of(differences.is_empty()))
}

/// Of the last line: `tempest: 95 of 262 tests passed, 0 failed`.
fn tempest_outcome(text: &str) -> Option<Outcome> {
    let rest = text.lines().last()?.strip_prefix("tempest: ")?;
    let (passed, rest) = rest.split_once(" of ")?;
    let failed = rest.split_once("passed, ")?.1.strip_suffix(" failed")?;
    Some(Outcome { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

/// Of the last line: `fuzz-api: seed 1, 4000 requests in 3 rounds, …, 0 failed`; the rounds are one test.
fn fuzz_api_outcome(text: &str) -> Option<Outcome> {
    let rest = text.lines().last()?.strip_prefix("fuzz-api: ")?;
    let failed: u64 = rest.rsplit_once(", ")?.1.strip_suffix(" failed")?.parse().ok()?;
    Some(Outcome::of(failed == 0))
}

fn doc(root: &Path) -> Result<Outcome> {
    let output = Command::new("cargo")
        .args(["test", "--quiet", "--doc", "--workspace", "--all-features"])
        .current_dir(root)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo test --doc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut outcome = doc_outcome(&text);
    if !output.status.success() {
        print!("{text}");
        outcome.failed = outcome.failed.max(1);
    }
    Ok(outcome)
}

/// Totals of the `test result:` lines.
fn doc_outcome(text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        let count = |word: &str| -> u64 {
            let mut words = line.split_whitespace();
            let mut previous = "";
            words
                .find_map(|this| {
                    let number = (this.trim_end_matches(';') == word).then(|| previous.parse().unwrap_or(0));
                    previous = this;
                    number
                })
                .unwrap_or(0)
        };
        outcome.add(Outcome { passed: count("passed"), failed: count("failed") });
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_junit_report_is_summed() {
        let report = r#"<?xml version="1.0"?><testsuites name="nextest-run" tests="7" failures="2" errors="1" time="1.0">
            <testsuite name="x" tests="7" disabled="0" errors="0" failures="0"/></testsuites>"#;
        assert_eq!(junit_outcome(report), Some(Outcome { passed: 4, failed: 3 }));
        assert_eq!(junit_outcome("<testsuites name=\"x\">"), None);
        assert_eq!(junit_outcome(""), None);
    }

    #[test]
    fn a_test_that_passed_at_the_second_try_is_named() {
        let report = r#"<testsuite><testcase name="a" classname="x"></testcase><testcase name="b" classname="x">
            <flakyFailure timestamp="t" message="m" type="test failure"></flakyFailure></testcase></testsuite>"#;
        assert_eq!(second_tries(report).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn tempest_tells_its_totals_in_its_last_line() {
        let text = "Ran: 125 tests\ntempest: 95 of 262 tests passed, 2 failed\n";
        assert_eq!(tempest_outcome(text), Some(Outcome { passed: 95, failed: 2 }));
        assert_eq!(tempest_outcome("tempest: nothing"), None);
        assert_eq!(tempest_outcome(""), None);
    }

    #[test]
    fn the_api_fuzzer_tells_in_its_last_line_whether_it_failed() {
        let text =
            "x\nfuzz-api: seed 1, 40 requests in 3 rounds, 60 61 61 kB of memory after each, 0 failed\n";
        assert_eq!(fuzz_api_outcome(text), Some(Outcome::PASSED));
        assert_eq!(fuzz_api_outcome(&text.replace(", 0 failed", ", 1 failed")), Some(Outcome::FAILED));
        assert_eq!(fuzz_api_outcome(""), None);
    }

    #[test]
    fn doc_test_results_are_summed() {
        let text = "running 1 test\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored\n";
        assert_eq!(doc_outcome(text), Outcome { passed: 4, failed: 2 });
        assert_eq!(doc_outcome("nothing ran"), Outcome::default());
    }
}
