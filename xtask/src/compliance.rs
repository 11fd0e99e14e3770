//! docs/nat-compliance.md: what the NAT RFCs ask for, how far it is met, and by which tests.
//!
//! Made of docs/nat-requirements.toml and of the tests whose names begin with a requirement
//! (`rfc4787_req3a_...`; of RFC 6887 and RFC 7857, which number none, the section: `rfc7857_s2_1_...`). Nothing is met
//! without a test, and nothing is missing without a reason.

use crate::tidy::Problem;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const REQUIREMENTS: &str = "docs/nat-requirements.toml";
const TABLE: &str = "docs/nat-compliance.md";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    requirement: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    rfc: u32,
    req: String,
    level: Level,
    meaning: String,
    #[serde(default)]
    status: Status,
    note: Option<String>,
    /// Filled from the sources.
    #[serde(skip)]
    tests: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Must,
    Should,
    May,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[default]
    Met,
    Partly,
    Open,
    #[serde(rename = "not applicable")]
    NotApplicable,
}

impl Level {
    const ALL: [Self; 3] = [Self::Must, Self::Should, Self::May];

    const fn name(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        }
    }
}

impl Status {
    const ALL: [Self; 4] = [Self::Met, Self::Partly, Self::Open, Self::NotApplicable];

    const fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Partly => "partly",
            Self::Open => "open",
            Self::NotApplicable => "not applicable",
        }
    }
}

impl Requirement {
    /// As people write it.
    fn name(&self) -> String {
        if self.sections() {
            format!("RFC {} §{}", self.rfc, self.req)
        } else {
            format!("RFC {} REQ-{}", self.rfc, self.req)
        }
    }

    /// How the names of its tests begin.
    fn prefix(&self) -> String {
        let kind = if self.sections() { "s" } else { "req" };
        format!("rfc{}_{kind}{}_", self.rfc, self.req.replace('.', "_"))
    }

    const fn sections(&self) -> bool {
        matches!(self.rfc, 6887 | 7857)
    }

    /// What is wrong with it, if anything.
    fn problem(&self) -> Option<&'static str> {
        let (tested, reason) = (!self.tests.is_empty(), self.note.is_some());
        match self.status {
            Status::Met if !tested => Some("has neither a test nor a stated reason"),
            Status::Partly | Status::Open | Status::NotApplicable if !reason => Some("gives no reason"),
            Status::Open if tested => Some("is open but has a test: say what is missing, as \"partly\""),
            _ => None,
        }
    }
}

/// Writes the table.
pub(crate) fn write(root: &Path) -> Result<()> {
    let (requirements, problems) = load(root)?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    let path = root.join(TABLE);
    fs::write(&path, render(&requirements)?).with_context(|| format!("write {}", path.display()))
}

/// What is wrong with the list, and whether the table is what would be written.
pub(crate) fn check(root: &Path) -> Result<Vec<Problem>> {
    let (requirements, problems) = load(root)?;
    let problem = |path: &str, message| Problem { path: path.into(), line: 0, message };
    let mut problems: Vec<Problem> =
        problems.into_iter().map(|message| problem(REQUIREMENTS, message)).collect();
    let written = fs::read_to_string(root.join(TABLE)).unwrap_or_default();
    if written != render(&requirements)? {
        problems.push(problem(TABLE, "stale: run `cargo xtask nat-compliance`".to_owned()));
    }
    Ok(problems)
}

fn load(root: &Path) -> Result<(Vec<Requirement>, Vec<String>)> {
    let path = root.join(REQUIREMENTS);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut tests = BTreeMap::new();
    collect_tests(&root.join("crates"), &mut tests)?;
    assign(&text, tests.into_keys())
}

/// Gives each test to the requirement with the longest prefix that fits.
fn assign(text: &str, tests: impl Iterator<Item = String>) -> Result<(Vec<Requirement>, Vec<String>)> {
    let mut requirements = toml::from_str::<Listed>(text).context("read the requirements")?.requirement;
    let mut problems = Vec::new();
    for test in tests {
        let fitting = requirements.iter_mut().filter(|requirement| test.starts_with(&requirement.prefix()));
        match fitting.max_by_key(|requirement| requirement.prefix().len()) {
            Some(requirement) => requirement.tests.push(test),
            None => problems.push(format!("{test} is named after no listed requirement")),
        }
    }
    for requirement in &requirements {
        problems.extend(requirement.problem().map(|problem| format!("{} {problem}", requirement.name())));
    }
    Ok((requirements, problems))
}

/// Names of the tests below a folder that begin with an RFC, with their files.
fn collect_tests(folder: &Path, tests: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_dir() {
            collect_tests(&path, tests)?;
        } else if crate::tidy::has_extension(&path, "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            tests.extend(test_names(&text).map(|name| (name.to_owned(), path.clone())));
        }
    }
    Ok(())
}

/// Functions marked as tests on the line before, whose names begin with an RFC.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    let is_mark = |line: &str| matches!(line, "#[test]" | "#[tokio::test]");
    lines.clone().zip(lines.skip(1)).filter(move |(mark, _)| is_mark(mark)).filter_map(|(_, line)| {
        let function = line.strip_prefix("async ").unwrap_or(line);
        let (name, _) = function.strip_prefix("fn ")?.split_once('(')?;
        let number = name.strip_prefix("rfc")?.get(..4)?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
    })
}

/// The RFC of the Port Control Protocol.
const PCP: u32 = 6887;

fn render(requirements: &[Requirement]) -> Result<String> {
    let mut out = String::from(
        "# What the NAT RFCs ask for\n\n\
         Made by `cargo xtask nat-compliance` from docs/nat-requirements.toml and the tests; not to be edited.\n\
         Each test plays on the host build of the packet path and, where it sends packets that the kernel's test\n\
         run can repeat, on the loaded object. \"Partly\" and \"open\" say what is missing.\n\n",
    );
    out.push_str(
        "| Level | Requirements | Met | Partly | Open | Not applicable |\n|---|---|---|---|---|---|\n",
    );
    for level in Level::ALL {
        let of_level = || of_nat(requirements).filter(|requirement| requirement.level == level);
        write!(out, "| {} | {} |", level.name(), of_level().count())?;
        for status in Status::ALL {
            write!(out, " {} |", of_level().filter(|requirement| requirement.status == status).count())?;
        }
        out.push('\n');
    }
    let tests: usize = of_nat(requirements).map(|requirement| requirement.tests.len()).sum();
    writeln!(
        out,
        "\n{} requirements, {tests} tests. RFC {PCP} is below, but not counted: a protocol of its own, which REQ-9a of RFC \
         6888 asks for.",
        of_nat(requirements).count(),
    )?;
    let mut rfc = 0;
    for requirement in requirements {
        if requirement.rfc != rfc {
            rfc = requirement.rfc;
            writeln!(out, "\n## RFC {rfc}\n\n| Requirement | Level | Status | Tests |\n|---|---|---|---|")?;
        }
        row(&mut out, requirement)?;
    }
    Ok(out)
}

/// Those of NAT itself.
fn of_nat(requirements: &[Requirement]) -> impl Iterator<Item = &Requirement> {
    requirements.iter().filter(|requirement| requirement.rfc != PCP)
}

fn row(out: &mut String, requirement: &Requirement) -> Result<()> {
    let tests: Vec<String> = requirement.tests.iter().map(|test| format!("`{test}`")).collect();
    let name = requirement.name();
    let (_, number) = name.split_at("RFC 0000 ".len());
    write!(out, "| {number}: {} | {} ", requirement.meaning, requirement.level.name())?;
    write!(out, "| {}", requirement.status.name())?;
    if let Some(note) = &requirement.note {
        write!(out, ": {note}")?;
    }
    writeln!(out, " | {} |", tests.join("<br>"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(rfc: u32, req: &str, more: &str) -> String {
        format!(
            "[[requirement]]\nrfc = {rfc}\nreq = \"{req}\"\nlevel = \"MUST\"\nmeaning = \"Something.\"\n{more}\n"
        )
    }

    fn problems(text: &str, tests: &[&str]) -> Vec<String> {
        assign(text, tests.iter().map(|test| (*test).to_owned())).unwrap().1
    }

    #[test]
    fn a_requirement_needs_a_test_or_a_reason() {
        let bare = entry(4787, "1", "");
        assert_eq!(problems(&bare, &[]), ["RFC 4787 REQ-1 has neither a test nor a stated reason"]);
        assert!(problems(&bare, &["rfc4787_req1_mapping"]).is_empty());
        assert!(problems(&entry(4787, "1", "status = \"open\"\nnote = \"Hard.\""), &[]).is_empty());
        for status in ["open", "partly", "not applicable"] {
            let silent = entry(4787, "1", &format!("status = \"{status}\""));
            assert_eq!(problems(&silent, &[]), ["RFC 4787 REQ-1 gives no reason"]);
        }
        let tested = entry(4787, "1", "status = \"open\"\nnote = \"Hard.\"");
        assert_eq!(problems(&tested, &["rfc4787_req1_mapping"]).len(), 1);
    }

    #[test]
    fn a_test_belongs_to_the_longest_name_that_fits() {
        let text = entry(7857, "2", "") + &entry(7857, "2.1", "") + &entry(4787, "1", "");
        let tests = ["rfc7857_s2_1_times", "rfc7857_s2_states", "rfc4787_req12_more", "rfc4787_req1_x"];
        let (requirements, problems) = assign(&text, tests.map(str::to_owned).into_iter()).unwrap();
        let found: Vec<_> = requirements.iter().map(|requirement| requirement.tests.join(" ")).collect();
        assert_eq!(found, ["rfc7857_s2_states", "rfc7857_s2_1_times", "rfc4787_req1_x"]);
        assert_eq!(problems, ["rfc4787_req12_more is named after no listed requirement"]);
    }

    #[test]
    fn only_tests_count() {
        let text = "#[test]\nfn rfc4787_req1_a() {}\nfn rfc4787_req2_helper() {}\n    #[test]\n    fn other() {}\n\
                    #[test]\nfn rfc4787_req3_b() {\n#[tokio::test]\nasync fn rfc4787_req4_c() {\n";
        assert_eq!(
            test_names(text).collect::<Vec<_>>(),
            ["rfc4787_req1_a", "rfc4787_req3_b", "rfc4787_req4_c"]
        );
    }

    #[test]
    fn the_table_counts_what_it_lists() {
        let text = entry(4787, "1", "") + &entry(5382, "2", "status = \"open\"\nnote = \"Hard.\"");
        let (requirements, _) = assign(&text, ["rfc4787_req1_a".to_owned()].into_iter()).unwrap();
        let table = render(&requirements).unwrap();
        assert!(table.contains("| MUST | 2 | 1 | 0 | 1 | 0 |\n"), "{table}");
        assert!(table.contains("| REQ-1: Something. | MUST | met | `rfc4787_req1_a` |\n"), "{table}");
        assert!(table.contains("| REQ-2: Something. | MUST | open: Hard. |  |\n"), "{table}");
    }

    #[test]
    fn the_table_in_docs_is_fresh_and_complete() {
        let root = crate::root().unwrap();
        assert_eq!(check(&root).unwrap(), []);
    }
}
