//! `cargo xtask tidy`: rules that no compiler checks.
//!
//! One file per rule: `source` (text and tokens of one file), `modules` (orphans), `dependencies` (directions
//! between our crates), `budget` (how many packages each part pulls in). The rules are those of the project,
//! written once, here; docs/architecture.md explains the directions.

mod budget;
mod dependencies;
mod modules;
mod packages;
mod source;

use anyhow::{Context, Result};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) path: PathBuf,
    /// From 1; 0 if the rule is about the whole file.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.message),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Problem>,
    /// Figures worth seeing although nothing is wrong.
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn print(&self) {
        for note in &self.notes {
            println!("tidy: {note}");
        }
        for problem in &self.problems {
            eprintln!("tidy: {problem}");
        }
        println!("tidy: {} problems", self.problems.len());
    }
}

/// Checks the whole tree. An error only when the tree cannot be read.
pub(crate) fn run(root: &Path) -> Result<Report> {
    let packages = packages::load(root)?;
    let files = source_files(root)?;
    let mut report = Report::default();
    for path in &files {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let relative = path.strip_prefix(root).unwrap_or(path);
        report.problems.extend(source::check(relative, &text, unsafe_allowed(relative)));
    }
    for package in &packages {
        report.problems.extend(modules::check(root, package, &files)?);
    }
    report.problems.extend(dependencies::check(root, &packages));
    report.problems.extend(budget::check(root, &mut report.notes)?);
    report.problems.extend(crate::compliance::check(root)?);
    report.problems.sort();
    let lines = files.iter().filter(|path| has_extension(path, "rs")).count();
    report.notes.push(format!("{lines} Rust files in {} packages", packages.len()));
    Ok(report)
}

/// Where `unsafe` may be written: the three places that talk to the kernel, and the one file that stands in
/// for atomics which `core` does not have for BPF.
fn unsafe_allowed(relative: &Path) -> bool {
    ["crates/netlink", "crates/dataplane", "ebpf", "crates/pipeline/src/atomic.rs"]
        .iter()
        .any(|allowed| relative.starts_with(allowed))
}

/// Every file the text rules apply to, sorted.
fn source_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["crates", "xtask", "ebpf", "fuzz", "scripts", ".ci", ".cargo", ".config"]
            .iter()
            .map(|name| root.join(name))
            .filter(|path| path.is_dir())
            .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with("artifacts") && !path.ends_with("corpus") {
                    folders.push(path);
                }
            } else if is_source(&path) {
                found.push(path);
            }
        }
    }
    for name in ["Makefile", "Cargo.toml", "deny.toml", "rustfmt.toml"] {
        let path = root.join(name);
        if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_source(path: &Path) -> bool {
    ["rs", "toml", "proto", "sh"].iter().any(|extension| has_extension(path, extension))
        || path
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|folder| folder == "scripts" || folder == ".ci")
}

pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_is_for_the_kernel_facing_crates() {
        assert!(unsafe_allowed(Path::new("crates/netlink/src/lib.rs")));
        assert!(unsafe_allowed(Path::new("ebpf/src/main.rs")));
        assert!(!unsafe_allowed(Path::new("crates/packet/src/lib.rs")));
        assert!(!unsafe_allowed(Path::new("crates/lab/src/lib.rs")));
        assert!(unsafe_allowed(Path::new("crates/pipeline/src/atomic.rs")));
        assert!(!unsafe_allowed(Path::new("crates/pipeline/src/nat.rs")));
    }

    #[test]
    fn a_problem_names_its_place() {
        let mut problem = Problem { path: "a.rs".into(), line: 7, message: "wrong".into() };
        assert_eq!(problem.to_string(), "a.rs:7: wrong");
        problem.line = 0;
        assert_eq!(problem.to_string(), "a.rs: wrong");
    }
}
