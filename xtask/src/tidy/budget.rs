//! How many packages each part pulls in: a dependency is paid for in build time and in trust.
//!
//! Counted are the packages that get linked: the normal tree without procedural macros, itself included.

use super::Problem;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Packages and the most they may pull in.
const BUDGETS: &[(&str, usize)] = &[
    // Read by the eBPF compiler too, and by everybody who wants to trust the data path.
    ("packet", 3),
    ("pipeline", 5),
    ("controller", 250),
    ("agent", 180),
    // All of it in one binary: the union of the two above and the CLI's own 160.
    ("nanboku", 300),
];

pub(super) fn check(root: &Path, notes: &mut Vec<String>) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (package, most) in BUDGETS {
        let count = count(root, package)?;
        notes.push(format!("{package} links {count} packages, at most {most}"));
        if count > *most {
            problems.push(Problem {
                path: "Cargo.toml".into(),
                line: 0,
                message: format!(
                    "{package} links {count} packages, at most {most} are agreed (xtask/src/tidy)"
                ),
            });
        }
    }
    Ok(problems)
}

fn count(root: &Path, package: &str) -> Result<usize> {
    let output = Command::new("cargo")
        .args([
            "tree",
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            package,
        ])
        .current_dir(root)
        .output()
        .context("run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree for {package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(distinct(&String::from_utf8_lossy(&output.stdout)))
}

/// Distinct packages in cargo's flat listing, whose repeated lines end in ` (*)`.
fn distinct(listing: &str) -> usize {
    let lines = listing.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty());
    lines.collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_packages_count_once() {
        assert_eq!(distinct("a v1\nb v1\nb v1 (*)\nb v2\n\n"), 3);
    }
}
