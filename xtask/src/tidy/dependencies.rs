//! The directions between our crates: who may use whom.
//!
//! Only normal and build dependencies count; a test may use anything.

use super::Problem;
use super::packages::Package;
use std::path::Path;

/// Every package and what it may use. A package that is not here is a problem too: its place has to be
/// decided before its code is.
const ALLOWED: &[(&str, &[&str])] = &[
    // The data path. It knows packets and tables, nothing of the API.
    ("packet", &[]),
    ("pipeline", &["packet"]),
    ("nanboku-ebpf", &["packet", "pipeline"]),
    ("dataplane", &["packet", "pipeline"]),
    // The model, and what is derived from it.
    ("model", &[]),
    ("store", &["model"]),
    ("api", &["model"]),
    ("compiler", &["model", "packet", "pipeline"]),
    ("trace", &["model", "packet", "pipeline"]),
    // The processes.
    ("proto", &[]),
    ("identity", &["api", "model", "store"]),
    ("controller", &["api", "identity", "metrics", "model", "proto", "store", "trace"]),
    // Shows numbers, knows nothing of what they mean.
    ("metrics", &[]),
    ("netlink", &["packet"]),
    ("bfd", &[]),
    ("dhcp", &["model", "packet"]),
    ("pcp", &["packet"]),
    // Neither `api` nor `store`, nor anything that brings them.
    (
        "agent",
        &[
            "bfd",
            "compiler",
            "dataplane",
            "dhcp",
            "metrics",
            "model",
            "netlink",
            "packet",
            "pcp",
            "pipeline",
            "proto",
            "trace",
        ],
    ),
    // For development and demonstration; only the binary may use it.
    ("lab", &["dataplane", "model", "netlink", "packet", "pipeline"]),
    (
        "nanboku",
        &[
            "agent",
            "api",
            "compiler",
            "controller",
            "dataplane",
            "lab",
            "model",
            "netlink",
            "packet",
            "pipeline",
            "proto",
            "trace",
        ],
    ),
    // Development only: nobody uses these outside tests.
    ("testkit", &["compiler", "dataplane", "model", "netlink", "packet", "pipeline", "trace"]),
    ("bench", &["compiler", "dataplane", "model", "netlink", "pipeline"]),
    ("nanboku-fuzz", &["compiler", "dhcp", "model", "packet", "pcp", "pipeline", "testkit"]),
    ("xtask", &[]),
];

pub(super) fn check(root: &Path, packages: &[Package]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in packages {
        let manifest = package.directory.join("Cargo.toml");
        let mut report = |message: String| {
            let path = manifest.strip_prefix(root).unwrap_or(&manifest).to_owned();
            problems.push(Problem { path, line: 0, message });
        };
        let Some(allowed) = allowed_for(&package.name) else {
            report(format!("{} has no place in the table of directions (xtask/src/tidy)", package.name));
            continue;
        };
        for used in package.uses.iter().filter(|used| !allowed.contains(&used.as_str())) {
            report(format!("{} must not use {used}; it may use: {}", package.name, allowed.join(", ")));
        }
    }
    problems
}

fn allowed_for(name: &str) -> Option<&'static [&'static str]> {
    ALLOWED.iter().find(|(package, _)| *package == name).map(|(_, allowed)| *allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn package(name: &str, uses: &[&str]) -> Package {
        Package {
            name: name.into(),
            directory: format!("/w/crates/{name}").into(),
            roots: Vec::new(),
            uses: uses.iter().map(|used| (*used).to_owned()).collect(),
        }
    }

    /// All that a package can reach through the table.
    fn reach(name: &'static str) -> BTreeSet<&'static str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            for used in allowed_for(next).expect("the table names everything it allows") {
                if reached.insert(*used) {
                    open.push(used);
                }
            }
        }
        reached
    }

    #[test]
    fn the_table_has_no_cycle() {
        for (name, _) in ALLOWED {
            assert!(!reach(name).contains(name), "{name} can reach itself");
        }
    }

    #[test]
    fn the_agent_reaches_neither_the_api_nor_the_store() {
        let reached = reach("agent");
        assert!(!reached.contains("api") && !reached.contains("store"), "{reached:?}");
    }

    #[test]
    fn only_the_binary_uses_the_lab() {
        let users: Vec<_> = ALLOWED.iter().filter(|(_, allowed)| allowed.contains(&"lab")).collect();
        assert_eq!(users.len(), 1);
        assert_eq!(users[0].0, "nanboku");
    }

    #[test]
    fn a_wrong_direction_is_named() {
        let packages = [package("packet", &["model"]), package("pipeline", &["packet"])];
        let problems = check(Path::new("/w"), &packages);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].path, Path::new("crates/packet/Cargo.toml"));
        assert!(problems[0].message.starts_with("packet must not use model"));
    }

    #[test]
    fn an_unknown_package_is_named() {
        let problems = check(Path::new("/w"), &[package("newcomer", &[])]);
        assert_eq!(problems.len(), 1);
    }
}
